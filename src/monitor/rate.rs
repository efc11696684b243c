//! How much a container may write to its log.
//!
//! What is over it is dropped, and the log says how much. Holding the container up instead
//! would make a service that logs too much one that does not answer, and its probes would end
//! it for that.

use std::time::Instant;

/// The smallest burst, in bytes: more than the longest line.
const SMALLEST: u64 = 64 * 1024;

/// Bytes that may be written, which become more with time.
#[derive(Debug)]
pub(super) struct Rate {
    /// Bytes a second.
    rate: u64,
    /// The most that may come at once.
    burst: u64,
    left: u64,
    filled_at: Instant,
    /// What was dropped since something was written; none while nothing is dropped.
    dropped: Option<Dropped>,
}

#[derive(Debug, Default)]
struct Dropped {
    lines: u64,
    bytes: u64,
}

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Write,
    /// After a line that says this.
    WriteAfter(String),
    Drop,
    /// After a line that says this.
    DropAfter(String),
}

impl Rate {
    /// None for no limit.
    pub(super) fn new(rate: u64, burst: u64, now: Instant) -> Option<Self> {
        let burst = if burst == 0 { rate.saturating_mul(10) } else { burst }.max(SMALLEST);
        (rate > 0).then_some(Self { rate, burst, left: burst, filled_at: now, dropped: None })
    }

    /// Judges a line, or a part of one, of so many bytes as it would be in the log.
    pub(super) fn judge(&mut self, bytes: u64, now: Instant) -> Verdict {
        self.fill(now);
        let rate = self.rate;
        match &mut self.dropped {
            None if bytes <= self.left => {
                self.left -= bytes;
                Verdict::Write
            }
            // Not for every line that there is room for again: that would be more words about
            // lines than lines.
            Some(dropped) if self.left < self.burst / 2 => {
                dropped.lines += 1;
                dropped.bytes += bytes;
                Verdict::Drop
            }
            Some(_) => {
                self.left = self.left.saturating_sub(bytes);
                self.report().map_or(Verdict::Write, Verdict::WriteAfter)
            }
            None => {
                self.dropped = Some(Dropped { lines: 1, bytes });
                Verdict::DropAfter(format!(
                    "[criquet: lines are missing from here on: more than {rate} bytes a second]"
                ))
            }
        }
    }

    /// What is to be said of what was dropped, once.
    pub(super) fn report(&mut self) -> Option<String> {
        let Dropped { lines, bytes } = self.dropped.take()?;
        Some(format!("[criquet: {lines} lines of {bytes} bytes are missing here]"))
    }

    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.filled_at);
        let more = elapsed.as_nanos().saturating_mul(self.rate.into()) / 1_000_000_000;
        // Less than a byte is counted the next time.
        if more > 0 {
            self.left = u64::try_from(more)
                .map_or(self.burst, |more| self.left.saturating_add(more).min(self.burst));
            self.filled_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Rate, SMALLEST, Verdict};

    #[test]
    fn what_is_over_the_rate_is_dropped_and_told() {
        let start = Instant::now();
        let mut rate = Rate::new(1000, 100_000, start).unwrap();
        for _ in 0..100 {
            assert_eq!(rate.judge(1000, start), Verdict::Write);
        }
        assert!(
            matches!(rate.judge(1000, start), Verdict::DropAfter(text) if text.contains("1000"))
        );
        // Room for some lines is not yet room for what was too much.
        assert_eq!(rate.judge(1000, start + Duration::from_secs(10)), Verdict::Drop);
        let Verdict::WriteAfter(text) = rate.judge(1000, start + Duration::from_secs(51)) else {
            panic!("it is still dropped")
        };
        assert!(text.contains("2 lines of 2000 bytes"), "{text}");
        assert_eq!(rate.report(), None);
        assert_eq!(rate.judge(1000, start + Duration::from_secs(51)), Verdict::Write);
        // It never gathers more than a burst.
        let later = start + Duration::from_secs(1_000_000);
        assert_eq!((0..200).filter(|_| rate.judge(1000, later) == Verdict::Write).count(), 100);
    }

    #[test]
    fn no_rate_is_no_limit_and_no_burst_is_ten_seconds() {
        let now = Instant::now();
        assert!(Rate::new(0, 5, now).is_none());
        assert_eq!(Rate::new(1 << 20, 0, now).unwrap().burst, 10 << 20);
        assert_eq!(Rate::new(1, 0, now).unwrap().burst, SMALLEST);
    }

    #[test]
    fn slow_rates_lose_no_time() {
        let start = Instant::now();
        let mut rate = Rate::new(1, 0, start).unwrap();
        assert_eq!(rate.judge(SMALLEST, start), Verdict::Write);
        for step in 1..=40 {
            rate.fill(start + Duration::from_millis(100 * step));
        }
        assert_eq!(rate.left, 4);
    }
}
