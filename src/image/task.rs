//! Work that blocks, away from the threads that serve others.

use super::Error;

/// Runs `work` on a thread where it may block. It goes on to its end when the caller goes away.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Task)?
}
