//! What can happen to a pod or a container, and how it is told.

use std::sync::Arc;

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// It is there.
    Created,
    /// It runs.
    Started,
    /// It runs no more.
    Stopped,
    /// It is gone.
    Deleted,
}

/// Tells those who want to know. Whom it happened to need not know them.
pub(super) type Tell<T> = Box<dyn Fn(Happening, Arc<T>) + Send + Sync>;
