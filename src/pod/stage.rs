//! Where in a call of several steps an object is.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The step that an object is at, and since when. Cheap to set, so that each step is named.
#[derive(Debug, Default)]
pub struct Stage {
    // Held for one look or one change.
    now: Mutex<Option<(&'static str, Instant)>>,
}

impl Stage {
    /// Begins a step, which ends the one before it.
    pub(super) fn enter(&self, name: &'static str) {
        *self.lock() = Some((name, Instant::now()));
    }

    /// Ends the last step.
    pub(super) fn leave(&self) {
        *self.lock() = None;
    }

    /// The step and its age; none while nothing is under way.
    pub fn current(&self) -> Option<(&'static str, Duration)> {
        self.lock().map(|(name, since)| (name, since.elapsed()))
    }

    fn lock(&self) -> MutexGuard<'_, Option<(&'static str, Instant)>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
