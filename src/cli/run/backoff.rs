//! How long a container that ends again and again waits before it is started once more, as
//! kubelets have it: at once the first time, then ten seconds, twice as long each time, five
//! minutes at most; after it has run for ten minutes it begins anew.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);
const FORGIVEN: Duration = Duration::from_secs(600);

/// The waits of one container.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    /// How long to wait now that it has ended after so long.
    pub(super) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= FORGIVEN {
            self.next = Duration::ZERO;
        }
        let now = self.next;
        self.next = (now * 2).clamp(FIRST, LONGEST);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_forgiven() {
        let mut backoff = Backoff::default();
        let mut waits = || backoff.after(Duration::from_secs(1)).as_secs();
        let first: Vec<u64> = (0..8).map(|_| waits()).collect();
        assert_eq!(first, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.after(FORGIVEN), Duration::ZERO);
        assert_eq!(backoff.after(Duration::ZERO), FIRST);
    }
}
