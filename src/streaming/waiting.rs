//! Clients that have not shown a token yet: whoever reaches the port can be one.
//!
//! There is a small number of places. Whoever comes when all are taken gets that of the client
//! that has waited longest, so that nobody shuts others out by holding connections.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// The places.
#[derive(Debug)]
pub(super) struct Waiting {
    most: usize,
    // Held for changes of the queue.
    queue: Mutex<VecDeque<Waiter>>,
}

#[derive(Debug, Clone)]
struct Waiter {
    identity: Arc<()>,
    lost: CancellationToken,
}

/// A place among those who wait. Dropped, it is free.
#[derive(Debug)]
pub(super) struct Place {
    waiting: Arc<Waiting>,
    waiter: Waiter,
}

impl Waiting {
    pub(super) fn new(most: usize) -> Self {
        Self { most, queue: Mutex::default() }
    }

    /// Takes a place, that of somebody else where there is no other.
    pub(super) fn enter(waiting: &Arc<Self>) -> Place {
        let waiter = Waiter { identity: Arc::default(), lost: CancellationToken::new() };
        let mut queue = waiting.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() >= waiting.most
            && let Some(first) = queue.pop_front()
        {
            first.lost.cancel();
        }
        queue.push_back(waiter.clone());
        drop(queue);
        Place { waiting: Arc::clone(waiting), waiter }
    }
}

impl Place {
    /// Returns when somebody else has the place.
    pub(super) async fn lost(&self) {
        self.waiter.lost.cancelled().await;
    }

    /// Waits no longer: the place is free, and cannot be lost.
    pub(super) fn leave(&self) {
        let mut queue = self.waiting.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.retain(|other| !Arc::ptr_eq(&other.identity, &self.waiter.identity));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Waiting;

    #[test]
    fn the_one_that_has_waited_longest_makes_room() {
        let waiting = Arc::new(Waiting::new(2));
        let places: Vec<_> = (0..2).map(|_| Waiting::enter(&waiting)).collect();
        let is_lost = |place: &super::Place| place.waiter.lost.is_cancelled();
        assert!(!is_lost(&places[0]) && !is_lost(&places[1]));
        let third = Waiting::enter(&waiting);
        assert!(is_lost(&places[0]) && !is_lost(&places[1]));
        // One that has shown its token, or has gone, is in nobody's way.
        places[1].leave();
        drop(third);
        let _more: Vec<_> = (0..2).map(|_| Waiting::enter(&waiting)).collect();
        assert!(!is_lost(&places[1]));
    }
}
