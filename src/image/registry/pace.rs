//! Whether a registry sends at all, by what it sends while it is waited for. Time in which
//! nobody waits for it, because the disk is slower, does not count.

use std::time::Duration;

/// What a registry must send.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Limits {
    /// One that sends nothing for this long has failed; its rate is looked at as often.
    pub(in super::super) window: Duration,
    /// Bytes of a second; 0 to be content with any.
    pub(in super::super) rate: u64,
}

/// The pace of one download, whatever its connections.
pub(super) struct Pace {
    limits: Limits,
    waited: Duration,
    received: u64,
}

/// Fewer bytes than there should have been, and in what time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooSlow {
    pub(super) received: u64,
    pub(super) waited: Duration,
}

impl Pace {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, waited: Duration::ZERO, received: 0 }
    }

    /// Counts bytes that were waited for.
    pub(super) fn count(&mut self, waited: Duration, received: u64) -> Result<(), TooSlow> {
        self.waited += waited;
        self.received += received;
        if self.waited < self.limits.window {
            return Ok(());
        }
        let wanted = self.limits.rate as f64 * self.waited.as_secs_f64();
        let found = TooSlow { received: self.received, waited: self.waited };
        *self = Self::new(self.limits);
        if (found.received as f64) < wanted { Err(found) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_is_too_slow_and_a_pause_is_not() {
        let limits = Limits { window: Duration::from_secs(10), rate: 100 };
        let mut pace = Pace::new(limits);
        for _ in 0..9 {
            assert_eq!(pace.count(Duration::from_secs(1), 1), Ok(()));
        }
        let found = TooSlow { received: 10, waited: Duration::from_secs(10) };
        assert_eq!(pace.count(Duration::from_secs(1), 1), Err(found));
        // Much and then nothing for a while is fast enough on the whole.
        assert_eq!(pace.count(Duration::from_secs(1), 5000), Ok(()));
        assert_eq!(pace.count(Duration::from_secs(10), 0), Ok(()));
        assert!(pace.count(Duration::from_secs(10), 0).is_err());
        let mut any = Pace::new(Limits { rate: 0, ..limits });
        assert_eq!(any.count(Duration::from_secs(100), 0), Ok(()));
    }
}
