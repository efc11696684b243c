//! Work that blocks, away from the threads that serve others.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::Error;

/// Calls of the store that may block at one time.
const AT_ONCE: usize = 64;
/// Archives and verifications at one time, each of which takes minutes and is as slow as whoever
/// reads it.
const LONG_AT_ONCE: usize = 4;

/// The threads that the store may have for work that blocks. The pool that they come from
/// serves the whole daemon: a disk that hangs takes these few, and the others go on.
#[derive(Clone)]
pub(super) struct Workers(Arc<Semaphore>);

impl Default for Workers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Workers {
    /// Others, for work that takes long.
    pub(super) fn for_long_work() -> Self {
        Self(Arc::new(Semaphore::new(LONG_AT_ONCE)))
    }

    /// Runs `work` on a thread where it may block. It goes on to its end when the caller goes
    /// away, and keeps its place among those at work until then.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let place = self.0.clone().acquire_owned().await.map_err(|_| Error::Task)?;
        let work = move || {
            let _place = place;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Error::Task)?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_that_hangs_takes_no_more_threads_than_are_its_own() {
        let workers = Workers::default();
        let (go_on, hung) = mpsc::channel::<()>();
        let hung = Arc::new(std::sync::Mutex::new(hung));
        // Each caller gives up at once, as clients do; only the first few have got a thread.
        for _ in 0..10 * AT_ONCE {
            let hung = hung.clone();
            let work = workers.run(move || {
                let _until_the_end = hung.lock().map(|hung| hung.recv());
                Ok(())
            });
            tokio::select! {
                biased;
                _ = work => panic!("it hangs"),
                () = tokio::task::yield_now() => {}
            }
        }
        assert_eq!(workers.0.available_permits(), 0);
        // The rest of the pool, which has 512 threads, serves others.
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        drop(go_on);
        workers.run(|| Ok(())).await.unwrap();
    }
}
