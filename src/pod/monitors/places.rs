//! Descriptors for the connections to monitors.
//!
//! A daemon that has fewer than it has pods must go on to serve: some are left for clients,
//! files and execs, whatever the number of pods is.

use std::sync::Arc;

use rustix::process::{Resource, getrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::pod::error::{Error, Reason};

/// Descriptors that no connection to a monitor takes.
const FOR_OTHERS: u64 = 128;

/// The part of all descriptors that meters of cgroups may keep open.
pub(in crate::pod) const METERS: u64 = 4;

/// The connections that there may be.
pub(in crate::pod) struct Places {
    limit: u64,
    free: Arc<Semaphore>,
}

impl Places {
    /// As many as `RLIMIT_NOFILE` has room for.
    pub(in crate::pod) fn of_this_process() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let places = limit.saturating_sub(FOR_OTHERS).saturating_sub(limit / METERS);
        let places = usize::try_from(places).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { limit, free: Arc::new(Semaphore::new(places)) }
    }

    /// How many descriptors meters may keep.
    pub(in crate::pod) fn of_meters(&self) -> usize {
        usize::try_from(self.limit / METERS).unwrap_or(usize::MAX)
    }

    /// A place, for as long as the connection lasts.
    pub(in crate::pod) fn take(&self) -> Result<OwnedSemaphorePermit, Error> {
        let place = Arc::clone(&self.free).try_acquire_owned();
        place.map_err(|_| Reason::NoDescriptor { limit: self.limit }.into())
    }
}
