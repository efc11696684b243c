//! When the same request is made again, and when its failure is told instead. The kubelet tries
//! again by itself, and can show nothing to anybody as long as it waits for an answer.

use std::time::{Duration, Instant, SystemTime};

use super::{Failure, Retry};
use crate::image::Error;

/// How often the last host is asked again after a passing failure.
const ATTEMPTS: u32 = 5;
/// A registry that wants to be left alone for longer is; the wait is told.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// After this long without an answer that helps nothing is tried again.
const PATIENCE: Duration = Duration::from_secs(20);

/// The attempts to get one thing.
pub(super) struct Retries {
    attempts: u32,
    since: Instant,
    /// What a mirror does not have.
    absent: Option<Box<Error>>,
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 0, since: Instant::now(), absent: None }
    }
}

impl Retries {
    /// Something has come: what failed before is forgotten.
    pub(super) fn begin_again(&mut self) {
        *self = Self { absent: self.absent.take(), ..Self::default() };
    }

    /// A mirror has failed, and another host is asked.
    pub(super) fn passed_over(&mut self, failure: Failure) {
        if matches!(*failure.error, Error::Unknown { .. }) {
            self.absent.get_or_insert(failure.error);
        }
    }

    /// Sleeps as long as the last host's failure asks for.
    ///
    /// # Errors
    /// The failure where there is no use in another attempt; where the last host cannot even be
    /// asked, as on a network of its own, what the mirror has said.
    pub(super) async fn wait(&mut self, failure: Failure) -> Result<(), Error> {
        if is_out_of_reach(&failure.error)
            && let Some(absent) = self.absent.take()
        {
            return Err(with_upstream(*absent, &failure.error));
        }
        self.attempts += 1;
        let wait = match failure.retry {
            Retry::After(wait) if wait <= LONGEST_WAIT => wait,
            Retry::Soon => backoff(self.attempts),
            Retry::After(_) | Retry::Never => return Err(*failure.error),
        };
        if self.attempts >= ATTEMPTS || self.since.elapsed() > PATIENCE {
            return Err(*failure.error);
        }
        tracing::debug!(error = %failure.error, ?wait, "trying again");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

fn is_out_of_reach(error: &Error) -> bool {
    matches!(error, Error::Unreachable { .. } | Error::Stalled { .. })
}

fn with_upstream(absent: Error, upstream: &Error) -> Error {
    match absent {
        Error::Unknown { what, reference, host, says } => {
            Error::Unknown { what, reference, host, says: format!("{says}; besides, {upstream}") }
        }
        other => other,
    }
}

/// Doubling, with some chance in it so that many nodes do not come back at once.
fn backoff(attempt: u32) -> Duration {
    let base = Duration::from_millis(200) * 2u32.saturating_pow(attempt.min(7));
    let nanos = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    base / 2 + base.mul_f64(f64::from(nanos % 1000) / 2000.0)
}
