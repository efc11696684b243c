//! System calls that a container's filter refuses, where somebody wants to know of them.
//!
//! The kernel asks the monitor what is to become of such a call. The answer is the one that the
//! filter itself would have given; the monitor only counts.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::v1;
use crate::sys::{
    notify::{self, Call},
    seccomp::Instruction,
};

/// Calls that are counted one by one. There are fewer; a program can make up numbers.
const MOST: usize = 512;

/// How long what is counted may be untold.
const PAUSE: Duration = Duration::from_secs(1);

/// What the processes of one container were refused.
#[derive(Debug)]
pub(super) struct Refusals {
    /// The container's filter, as it would be without a listener.
    filter: Vec<Instruction>,
    /// By architecture and number.
    counts: BTreeMap<(u32, u32), u64>,
    /// How long after the first one the container is ended; none to let it run.
    stop_after: Option<Duration>,
    /// When it is.
    stop_at: Option<Instant>,
    /// When what is counted is told.
    tell_at: Option<Instant>,
    told_at: Option<Instant>,
}

impl Refusals {
    pub(super) fn new(filter: Vec<Instruction>, stop_after: Option<Duration>) -> Self {
        let (stop_at, tell_at, told_at) = (None, None, None);
        Self { filter, counts: BTreeMap::new(), stop_after, stop_at, tell_at, told_at }
    }

    /// Counts a call; the error number that it fails with.
    pub(super) fn count(&mut self, call: &Call, now: Instant) -> i32 {
        let key = (call.architecture, call.number as u32);
        if self.counts.len() < MOST || self.counts.contains_key(&key) {
            *self.counts.entry(key).or_default() += 1;
        }
        if self.stop_at.is_none() {
            self.stop_at = self.stop_after.and_then(|after| now.checked_add(after));
        }
        let next = self.told_at.map_or(now, |told| (told + PAUSE).max(now));
        self.tell_at.get_or_insert(next);
        // What the profile wants to know of is refused as well.
        let verdict = notify::verdict(&self.filter, call);
        verdict.and_then(notify::errno_of).filter(|errno| *errno != 0).unwrap_or(libc::EPERM)
    }

    /// When something is to be done.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.stop_at.into_iter().chain(self.tell_at).min()
    }

    /// Whether the container is to be ended by now: once.
    pub(super) fn is_to_stop(&mut self, now: Instant) -> bool {
        let is_due = self.stop_at.is_some_and(|at| at <= now);
        if is_due {
            (self.stop_at, self.stop_after) = (None, None);
        }
        is_due
    }

    /// Whether what is counted is to be told by now.
    pub(super) fn is_to_tell(&self, now: Instant) -> bool {
        self.tell_at.is_some_and(|at| at <= now)
    }

    /// Whether something is untold.
    pub(super) fn is_untold(&self) -> bool {
        self.tell_at.is_some()
    }

    /// It is told now.
    pub(super) fn told(&mut self, now: Instant) {
        (self.tell_at, self.told_at) = (None, Some(now));
    }

    pub(super) fn counts(&self, container: &str) -> v1::CallsRefused {
        let calls = self.counts.iter().map(|(&(architecture, number), &count)| v1::RefusedCall {
            architecture,
            number,
            count,
        });
        v1::CallsRefused { container: container.to_owned(), calls: calls.collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{MOST, Refusals};
    use crate::sys::{
        notify::Call,
        seccomp::{Instruction, RETURN},
    };

    fn refusals(verdict: u32, stop_after: Option<Duration>) -> Refusals {
        let refuse = Instruction { code: RETURN, jump_true: 0, jump_false: 0, operand: verdict };
        Refusals::new(vec![refuse], stop_after)
    }

    #[test]
    fn a_call_fails_as_its_profile_says_and_is_counted() {
        let now = Instant::now();
        let call = |number| Call { number, ..Call::default() };
        let mut refusals = refusals(libc::SECCOMP_RET_ERRNO | 95, None);
        for number in [83, 83, 165] {
            assert_eq!(refusals.count(&call(number), now), 95);
        }
        let counts = refusals.counts("c");
        let counts: Vec<_> = counts.calls.iter().map(|one| (one.number, one.count)).collect();
        assert_eq!(counts, [(83, 2), (165, 1)]);
        for number in 1000..5000 {
            refusals.count(&call(number), now);
        }
        assert_eq!(refusals.counts("c").calls.len(), MOST, "made up numbers fill no memory");
        let mut asked = self::refusals(libc::SECCOMP_RET_USER_NOTIF, None);
        assert_eq!(asked.count(&call(1), now), libc::EPERM);
    }

    #[test]
    fn it_is_told_at_once_and_then_now_and_then() {
        let now = Instant::now();
        let mut refusals = refusals(libc::SECCOMP_RET_ERRNO | 1, Some(Duration::from_secs(5)));
        assert!(!refusals.is_to_tell(now) && refusals.due_at().is_none());
        refusals.count(&Call::default(), now);
        assert!(refusals.is_to_tell(now));
        refusals.told(now);
        refusals.count(&Call::default(), now);
        assert!(refusals.is_untold() && !refusals.is_to_tell(now));
        assert!(refusals.is_to_tell(now + Duration::from_secs(1)));
        assert!(!refusals.is_to_stop(now + Duration::from_secs(4)));
        assert!(refusals.is_to_stop(now + Duration::from_secs(5)));
        assert!(!refusals.is_to_stop(now + Duration::from_secs(6)), "it is ended once");
    }
}
