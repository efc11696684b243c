//! Requests and limits as the kubelet turns them into what a cgroup has
//! (`pkg/kubelet/cm/helpers_linux.go`, `pkg/kubelet/qos/policy.go`).

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::ResourceRequirements, apimachinery::pkg::api::resource::Quantity,
};

use super::{Problem, plan::Facts};
use crate::{cri::v1::LinuxContainerResources, quantity};

/// Microseconds in which a quota counts.
const PERIOD: i64 = 100_000;
/// The least that the kernel takes.
const LEAST_QUOTA: i64 = 1000;
const LEAST_SHARES: i64 = 2;
const MOST_SHARES: i64 = 262_144;

/// Requests and limits of a container or of a whole pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Thousandths of a processor.
    pub cpu_request: Option<u64>,
    pub cpu_limit: Option<u64>,
    /// Bytes.
    pub memory_request: Option<u64>,
    pub memory_limit: Option<u64>,
}

impl Wanted {
    /// What is said at that path. A limit without a request is a request as well.
    pub(super) fn of(
        given: Option<&ResourceRequirements>,
        path: &str,
        problems: &mut Vec<Problem>,
        notes: &mut Vec<String>,
    ) -> Self {
        let ResourceRequirements { limits, requests, .. } = given.cloned().unwrap_or_default();
        let (limits, requests) = (limits.unwrap_or_default(), requests.unwrap_or_default());
        for (of, all) in [("limits", &limits), ("requests", &requests)] {
            for name in all.keys() {
                let path = format!("{path}.{of}[{name:?}]");
                match name.as_str() {
                    "cpu" | "memory" => {}
                    "ephemeral-storage" => notes.push(format!("{path} is not enforced")),
                    _ => problems.push(Problem::new(path, "is not known here: cpu and memory are")),
                }
            }
        }
        let cpu = |all: &BTreeMap<String, Quantity>| {
            all.get("cpu").and_then(|quantity| quantity::thousandths(&quantity.0))
        };
        let memory = |all: &BTreeMap<String, Quantity>| {
            all.get("memory").and_then(|quantity| quantity::whole(&quantity.0))
        };
        let wanted = Self {
            cpu_limit: cpu(&limits),
            cpu_request: cpu(&requests).or_else(|| cpu(&limits)),
            memory_limit: memory(&limits),
            memory_request: memory(&requests).or_else(|| memory(&limits)),
        };
        for (what, request, limit) in [
            ("cpu", wanted.cpu_request, wanted.cpu_limit),
            ("memory", wanted.memory_request, wanted.memory_limit),
        ] {
            if request.zip(limit).is_some_and(|(request, limit)| request > limit) {
                let path = format!("{path}.requests[{what:?}]");
                problems.push(Problem::new(path, "is more than the limit"));
            }
        }
        wanted
    }

    /// What its cgroup has.
    pub(super) fn limits(&self, oom_score_adj: i64) -> LinuxContainerResources {
        LinuxContainerResources {
            cpu_period: PERIOD,
            cpu_quota: self.cpu_limit.map_or(0, quota),
            cpu_shares: shares(self.cpu_request.unwrap_or(0)),
            memory_limit_in_bytes: signed(self.memory_limit.unwrap_or(0)),
            oom_score_adj,
            ..LinuxContainerResources::default()
        }
    }
}

fn quota(thousandths: u64) -> i64 {
    match signed(thousandths).saturating_mul(PERIOD) / 1000 {
        // A limit of nothing is none.
        0 => 0,
        quota => quota.max(LEAST_QUOTA),
    }
}

fn shares(thousandths: u64) -> i64 {
    (signed(thousandths).saturating_mul(1024) / 1000).clamp(LEAST_SHARES, MOST_SHARES)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Who is ended first when memory runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Guaranteed,
    Burstable,
    BestEffort,
}

/// The class of a pod with these containers.
pub(super) fn class(all: &[Wanted]) -> Class {
    if all.iter().all(|one| *one == Wanted::default()) {
        return Class::BestEffort;
    }
    let is_whole = |one: &Wanted| {
        one.cpu_limit.is_some()
            && one.memory_limit.is_some()
            && one.cpu_request == one.cpu_limit
            && one.memory_request == one.memory_limit
    };
    if all.iter().all(is_whole) { Class::Guaranteed } else { Class::Burstable }
}

/// How early a container of that class is ended: the less it has asked for, the earlier.
pub(super) fn oom_score_adj(class: Class, wanted: &Wanted, facts: &Facts) -> i64 {
    match class {
        Class::Guaranteed => -997,
        Class::BestEffort => 1000,
        Class::Burstable => {
            let request = wanted.memory_request.unwrap_or(0);
            let part = u128::from(request) * 1000 / u128::from(facts.memory.max(1));
            (1000 - i64::try_from(part).unwrap_or(1000)).clamp(3, 999)
        }
    }
}

/// What the whole pod needs at most: its containers and sidecars side by side, or an init container
/// beside the sidecars before it. It has a limit where all of them have one.
pub(super) fn of_pod(init: &[(Wanted, bool)], containers: &[Wanted]) -> Wanted {
    let whole = |figure: fn(&Wanted) -> Option<u64>| -> Option<u64> {
        let (mut beside, mut most) = (0, 0);
        for (one, is_sidecar) in init {
            most = most.max(beside + figure(one)?);
            if *is_sidecar {
                beside += figure(one)?;
            }
        }
        let together = containers.iter().map(figure).sum::<Option<u64>>()?;
        Some(most.max(beside + together))
    };
    Wanted {
        // What nobody asks for is nothing.
        cpu_request: whole(|one| Some(one.cpu_request.unwrap_or(0))),
        memory_request: whole(|one| Some(one.memory_request.unwrap_or(0))),
        cpu_limit: whole(|one| one.cpu_limit),
        memory_limit: whole(|one| one.memory_limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_get_what_the_kubelet_gives_them() {
        let wanted = Wanted {
            cpu_request: Some(250),
            cpu_limit: Some(500),
            memory_limit: Some(64 << 20),
            memory_request: Some(32 << 20),
        };
        let limits = wanted.limits(-997);
        assert_eq!((limits.cpu_shares, limits.cpu_quota, limits.cpu_period), (256, 50_000, PERIOD));
        assert_eq!(limits.memory_limit_in_bytes, 64 << 20);
        let none = Wanted::default().limits(1000);
        assert_eq!((none.cpu_shares, none.cpu_quota, none.memory_limit_in_bytes), (2, 0, 0));
        let little = Wanted { cpu_limit: Some(1), ..Wanted::default() }.limits(0);
        assert_eq!(little.cpu_quota, LEAST_QUOTA);
    }

    #[test]
    fn who_asked_for_nothing_is_ended_first() {
        let facts = Facts { memory: 1000 << 20, ..Facts::default() };
        let whole = Wanted {
            cpu_request: Some(1),
            cpu_limit: Some(1),
            memory_request: Some(1),
            memory_limit: Some(1),
        };
        let half = Wanted { memory_request: Some(500 << 20), ..Wanted::default() };
        assert_eq!(class(&[whole, whole]), Class::Guaranteed);
        assert_eq!(class(&[whole, half]), Class::Burstable);
        assert_eq!(class(&[Wanted::default()]), Class::BestEffort);
        assert_eq!(oom_score_adj(Class::Burstable, &half, &facts), 500);
        assert_eq!(oom_score_adj(Class::Burstable, &Wanted::default(), &facts), 999);
        assert_eq!(oom_score_adj(Class::Guaranteed, &whole, &facts), -997);
    }

    #[test]
    fn a_pod_needs_what_runs_side_by_side() {
        let of = |memory| Wanted { memory_limit: memory, ..Wanted::default() };
        let limit =
            |init: &[(Wanted, bool)], containers: &[Wanted]| of_pod(init, containers).memory_limit;
        assert_eq!(limit(&[], &[of(Some(1)), of(Some(2))]), Some(3));
        assert_eq!(limit(&[], &[of(Some(1)), of(None)]), None, "one has no limit");
        assert_eq!(limit(&[(of(Some(9)), false)], &[of(Some(2))]), Some(9));
        let sidecar_first = [(of(Some(4)), true), (of(Some(9)), false)];
        assert_eq!(limit(&sidecar_first, &[of(Some(2))]), Some(13));
        assert_eq!(limit(&[(of(Some(4)), true)], &[of(Some(2))]), Some(6));
    }
}
