//! Memory of what is gone goes back to the kernel.
//!
//! A node whose pods crash loop has thousands of records for an hour; the daemon does not keep
//! what it needed for them for the rest of its life.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{Pods, blocking, events::AGE};

/// Records that have to be gone before it is worth the work.
const MANY: usize = 500;

/// The start of a pod or a container needs for a moment what many records take.
pub(super) const PER_START: usize = 5;

/// The same of an answer with all metrics.
pub(super) const PER_METRICS: usize = 100;

/// How often it is thought of.
const PAUSE: Duration = Duration::from_secs(5);

/// What was let go of since memory was given back, counted in records.
#[derive(Default)]
pub(super) struct Freed(AtomicUsize);

impl Freed {
    /// So many more are gone, or were held twice while they were read.
    pub(super) fn add(&self, records: usize) {
        self.0.fetch_add(records, Ordering::Relaxed);
    }

    /// Whether it is worth the work now; then it counts anew.
    fn is_worth_it(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= MANY && self.0.swap(0, Ordering::Relaxed) > 0
    }
}

impl Pods {
    /// Gives memory back for as long as the daemon lives.
    pub(super) fn give_memory_back(self: &Arc<Self>) {
        let pods = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(PAUSE).await;
                let Some(pods) = pods.upgrade() else { return };
                pods.freed.add(pods.events.forget_old(AGE));
                if pods.freed.is_worth_it() {
                    let given = blocking::own_files(|| {
                        crate::sys::memory::give_back();
                        Ok(())
                    });
                    // It cannot fail but by a panic.
                    let _ = given.await;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{Freed, MANY};

    #[test]
    fn it_is_worth_the_work_once_for_many() {
        let freed = Freed::default();
        freed.add(MANY - 1);
        assert!(!freed.is_worth_it());
        freed.add(1);
        assert!(freed.is_worth_it());
        assert!(!freed.is_worth_it());
    }
}
