//! Work that waits for files, on threads that serve nobody.
//!
//! Criquet's own disks are waited for by as many as ask. Paths that users name are another
//! matter: each can lie on a file system that never answers, and the thread that looks at it
//! is lost for as long. Those have a bounded number of places.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::error::{Error, Reason};

/// Threads that may wait for paths of users.
const PLACES: usize = 128;

/// How long somebody waits for a place.
const PATIENCE: Duration = Duration::from_secs(5);

/// Does work on Criquet's own files.
pub(super) async fn own_files<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let span = tracing::Span::current();
    let work = spawn_blocking(move || span.in_scope(work));
    work.await.unwrap_or_else(|_| Err(Reason::Aborted.into()))
}

/// The places of those who look at paths that users name.
pub(super) struct UserPaths {
    places: Arc<Semaphore>,
}

impl Default for UserPaths {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(PLACES)) }
    }
}

impl UserPaths {
    /// Does work that looks at such paths. Nothing ends it but its file system's answer: a
    /// caller that goes away leaves the thread behind, and with it the place.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let place = timeout(PATIENCE, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else { return Err(Reason::NoPlace(PLACES).into()) };
        own_files(move || {
            let _place = place;
            work()
        })
        .await
    }

    /// How many wait now.
    pub(super) fn taken(&self) -> usize {
        PLACES - self.places.available_permits()
    }
}
