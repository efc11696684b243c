//! System calls that the filter of a container refuses, where its pod wants to know of them.

use std::collections::BTreeMap;

use super::Container;
use crate::{
    monitor::v1,
    pod::{Pods, allowed},
    runtime::seccomp,
};

/// How long after the first refused call a container is killed, in milliseconds: long enough
/// to see which others its program makes.
const PAUSE: u64 = 5000;

/// What follows from a refused call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// It is counted and shown.
    Count,
    /// The container is killed, too.
    Stop,
}

impl Action {
    /// As annotations name it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "log" => Some(Action::Count),
            "stop" => Some(Action::Stop),
            _ => None,
        }
    }

    /// Milliseconds from the first refused call to the kill; 0 for none.
    pub(super) fn pause(self) -> u64 {
        match self {
            Action::Count => 0,
            Action::Stop => PAUSE,
        }
    }
}

/// Counts by the names of system calls.
pub type Counts = BTreeMap<&'static str, u64>;

impl Pods {
    /// What its pod asks for, where the administrator allows that; none where nobody wants to
    /// know. A value that makes no sense was refused when the container was made.
    pub(super) fn refusal_action(&self, container: &Container) -> Option<Action> {
        let allowed = &self.options.containers.allowed_annotations;
        if allowed.0.is_empty() {
            return None;
        }
        let name = container.record().config.metadata.name.clone();
        let sandbox = self.sandbox_of(container).ok()?;
        let record = sandbox.record();
        let annotations = &record.config.annotations;
        let (_, text) = allowed.value(annotations, allowed::SECCOMP_NOTIFIER, &name)?;
        Action::parse(text)
    }

    /// Takes over what a monitor has counted since the start of a container.
    pub(in crate::pod) fn calls_refused(&self, refused: &v1::CallsRefused) {
        let Ok(container) = self.container(&refused.container) else { return };
        let mut counts = Counts::new();
        for call in &refused.calls {
            let name = seccomp::name_of(call.architecture, call.number).unwrap_or("unknown");
            let count: &mut u64 = counts.entry(name).or_default();
            *count = count.saturating_add(call.count);
        }
        let before = container.set_refused_calls(counts.clone());
        for (name, count) in &counts {
            let before = before.get(name).copied();
            if before.is_none() {
                tracing::warn!(container.id = %container.id, call = name,
                    "the container's seccomp profile refuses a system call");
            }
            let more = count.saturating_sub(before.unwrap_or(0));
            self.operations().figures().calls_refused(name, more);
        }
    }
}

/// Which calls were refused, for people.
pub(super) fn message(counts: &Counts) -> String {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let shown: Vec<_> = counts.iter().take(20).map(|(name, n)| format!("{name} ({n})")).collect();
    match shown.is_empty() {
        true => "its seccomp profile refused system calls".to_owned(),
        false => format!("its seccomp profile refused system calls: {}", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, message};

    #[test]
    fn the_message_has_the_most_frequent_calls_first() {
        let counts = Counts::from([("mount", 1), ("bpf", 7)]);
        assert_eq!(
            message(&counts),
            "its seccomp profile refused system calls: bpf (7), mount (1)"
        );
        assert_eq!(message(&Counts::new()), "its seccomp profile refused system calls");
    }
}
