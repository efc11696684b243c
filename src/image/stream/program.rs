//! What decompresses in a process of its own.

use std::{path::Path, sync::Arc};

/// The program that is a worker where it is executed by that name.
#[derive(Debug, Clone)]
pub(in crate::image) struct Program(Arc<Path>);

impl Program {
    pub(in crate::image) fn at(path: &Path) -> Self {
        Self(path.into())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}
