//! A file of an artifact: one that is not unpacked, only verified.

use std::io::{BufReader, Read};

use super::{Target, explain};
use crate::image::{
    Digest, Error,
    digest::{Hasher, Hashing},
    unpack,
};

/// Writes one file into the empty directory of a layer, and verifies its digest.
pub(in crate::image) fn write_file(
    source: impl Read,
    target: Target,
    title: &str,
    digest: &Digest,
) -> Result<unpack::Unpacked, Error> {
    let mut source =
        BufReader::with_capacity(256 << 10, Hashing::new(source, Hasher::like(digest)));
    let unpacked = unpack::write_one(target.root, title.as_bytes(), &mut source)
        .map_err(|failure| explain(failure, *digest))?;
    let found = source.into_inner().finish();
    if found == *digest {
        return Ok(unpacked);
    }
    Err(Error::Corrupt {
        what: format!("file {title:?}"),
        expected: *digest,
        found: Box::new(found),
    })
}
