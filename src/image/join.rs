//! Joinable work: one task for a key, however many ask for it. The task belongs to those
//! who wait for it together: it ends when the last of them goes away.

use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Error;

type Outcome<T> = Option<Result<T, Arc<Error>>>;

struct Work<T> {
    outcome: watch::Receiver<Outcome<T>>,
    /// Ends the task when the last waiter drops this.
    _cancel: DropGuard,
}

/// The work that is under way.
pub(super) struct Joint<K, T> {
    // A short critical section: a look-up, or the start of a task.
    running: Arc<Mutex<HashMap<K, Weak<Work<T>>>>>,
}

impl<K, T> Default for Joint<K, T> {
    fn default() -> Self {
        Self { running: Arc::default() }
    }
}

impl<K, T> Joint<K, T>
where
    K: Eq + Hash + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Waits for the work of that key, which is started when it is not under way. Says also
    /// whether this call started it.
    pub(super) async fn run<F>(
        &self,
        key: K,
        start: impl FnOnce() -> F,
    ) -> (bool, Result<T, Arc<Error>>)
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (started, work) = self.join(key, start);
        let mut outcome = work.outcome.clone();
        let result = match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(Arc::new(Error::Task))),
            Err(_) => Err(Arc::new(Error::Task)),
        };
        (started, result)
    }

    fn join<F>(&self, key: K, start: impl FnOnce() -> F) -> (bool, Arc<Work<T>>)
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let mut running = lock(&self.running);
        if let Some(work) = running.get(&key).and_then(Weak::upgrade) {
            return (false, work);
        }
        let (answer, outcome) = watch::channel(None);
        let token = CancellationToken::new();
        let work = Arc::new(Work { outcome, _cancel: token.clone().drop_guard() });
        let own = Arc::downgrade(&work);
        running.insert(key.clone(), own.clone());
        let registry = self.running.clone();
        let future = start();
        tokio::spawn(async move {
            let result = tokio::select! {
                biased;
                () = token.cancelled() => Err(Error::Cancelled),
                result = future => result,
            };
            {
                let mut running = lock(&registry);
                if running.get(&key).is_some_and(|current| current.ptr_eq(&own)) {
                    running.remove(&key);
                }
            }
            answer.send(Some(result.map_err(Arc::new))).ok();
        });
        (true, work)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use super::*;

    #[tokio::test]
    async fn many_wait_for_one() {
        let joint = Joint::<u8, u32>::default();
        let count = Arc::new(AtomicU32::new(0));
        let work = || {
            let count = count.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok(count.fetch_add(1, Ordering::SeqCst))
            }
        };
        let results = futures_util::future::join_all((0..10).map(|_| joint.run(1, work))).await;
        assert_eq!(results.iter().filter(|(started, _)| *started).count(), 1);
        assert!(results.iter().all(|(_, result)| *result.as_ref().unwrap() == 0));
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert_eq!(joint.run(1, work).await.1.unwrap(), 1);
    }

    #[tokio::test]
    async fn the_last_waiter_takes_the_work_along() {
        let joint = Arc::new(Joint::<u8, u32>::default());
        let token = CancellationToken::new();
        let guard = token.clone().drop_guard();
        let waiting = joint.clone();
        let waiter = tokio::spawn(async move {
            let forever = move || async move {
                let _guard = guard;
                std::future::pending::<Result<u32, Error>>().await
            };
            waiting.run(1, forever).await.1.is_ok()
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!token.is_cancelled());
        waiter.abort();
        tokio::time::timeout(Duration::from_secs(5), token.cancelled()).await.unwrap();
    }
}
