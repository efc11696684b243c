//! Tasks that belong to the daemon and not to the request that started them.
//!
//! A request that is repeated while the first is under way, or after its caller has given up,
//! waits for the same task and gets the same result.

use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use super::error::Reason;
use crate::telemetry::inherited;

type Outcome<T, E> = Option<Result<T, E>>;

/// Where the outcome of each task will be told.
type Tasks<K, T, E> = Arc<Mutex<HashMap<K, watch::Receiver<Outcome<T, E>>>>>;

/// Tasks under way, by the identity of what they make.
pub(super) struct Joint<K, T, E> {
    // Held for one look-up.
    tasks: Tasks<K, T, E>,
}

impl<K, T, E> Default for Joint<K, T, E> {
    fn default() -> Self {
        Self { tasks: Arc::default() }
    }
}

impl<K, T, E> Joint<K, T, E>
where
    K: Eq + Hash + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + From<Reason> + 'static,
{
    /// Waits for the task of this key, which is started if there is none.
    pub(super) async fn run<F>(&self, key: K, start: impl FnOnce() -> F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let mut receiver = self.receiver(key, start);
        match receiver.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(Reason::Aborted.into())),
            Err(_) => Err(Reason::Aborted.into()),
        }
    }

    /// Whether there is a task of this key.
    pub(super) fn is_under_way(&self, key: &K) -> bool {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    fn receiver<F>(&self, key: K, start: impl FnOnce() -> F) -> watch::Receiver<Outcome<T, E>>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = tasks.get(&key) {
            return task.clone();
        }
        let (sender, receiver) = watch::channel(None);
        tasks.insert(key.clone(), receiver.clone());
        // Taken off also when the task panics, so that a later call starts anew.
        let entry = Entry { tasks: Arc::clone(&self.tasks), key };
        // What is traced is the call that begins it.
        let task = inherited(start());
        tokio::spawn(async move {
            let outcome = task.await;
            drop(entry);
            let _ = sender.send(Some(outcome));
        });
        receiver
    }
}

struct Entry<K: Eq + Hash, T, E> {
    tasks: Tasks<K, T, E>,
    key: K,
}

impl<K: Eq + Hash, T, E> Drop for Entry<K, T, E> {
    fn drop(&mut self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::sync::Notify;

    use super::Joint;
    use crate::pod::error::Error;

    #[tokio::test]
    async fn a_repeat_joins_and_a_given_up_task_goes_on() {
        let joint = Arc::new(Joint::<&str, usize, Error>::default());
        let (gate, count) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let start = {
            let (gate, count) = (Arc::clone(&gate), Arc::clone(&count));
            move || async move {
                count.fetch_add(1, Ordering::SeqCst);
                gate.notified().await;
                Ok(7)
            }
        };
        let first = {
            let (joint, start) = (Arc::clone(&joint), start.clone());
            tokio::spawn(async move { joint.run("key", start).await.unwrap() })
        };
        tokio::task::yield_now().await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        let second = {
            let joint = Arc::clone(&joint);
            tokio::spawn(async move { joint.run("key", start).await.unwrap() })
        };
        tokio::task::yield_now().await;
        gate.notify_one();
        assert_eq!(second.await.unwrap(), 7);
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_panic_frees_the_key() {
        let joint = Joint::<&str, usize, Error>::default();
        let failed = joint.run("key", || async { panic!("on purpose") }).await;
        assert!(failed.is_err());
        assert_eq!(joint.run("key", || async { Ok(1) }).await.unwrap(), 1);
    }
}
