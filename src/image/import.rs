//! Import of archives.
use super::{Error, Image, ImageStore};
use std::path::Path;
pub(super) fn import(_store: &ImageStore, archive: &Path) -> Result<Vec<Image>, Error> {
    Err(Error::Archive { path: archive.to_owned(), reason: "soon".into() })
}
