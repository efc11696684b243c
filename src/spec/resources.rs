//! cgroup limits: from the CRI's numbers to those of the OCI spec.

use std::collections::HashMap;

use oci_spec::runtime::{
    LinuxCpu, LinuxHugepageLimit, LinuxHugepageLimitBuilder, LinuxMemory, LinuxResources,
};

use super::{config::Resources, error::Error};

/// `linux.resources` without devices.
///
/// # Errors
/// Numbers that no kernel takes.
pub fn build(resources: &Resources) -> Result<LinuxResources, Error> {
    check(resources)?;
    let mut cpu = LinuxCpu::default();
    cpu.set_period((resources.cpu_period != 0).then_some(resources.cpu_period as u64));
    cpu.set_quota((resources.cpu_quota != 0).then_some(resources.cpu_quota));
    cpu.set_shares((resources.cpu_shares != 0).then_some(resources.cpu_shares as u64));
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    cpu.set_cpus(text(&resources.cpuset_cpus));
    cpu.set_mems(text(&resources.cpuset_mems));

    let mut memory = LinuxMemory::default();
    let limit = (resources.memory_limit != 0).then_some(resources.memory_limit);
    memory.set_limit(limit);
    // Without a word about swap a container gets none beyond its memory.
    let swap = (resources.memory_swap_limit != 0).then_some(resources.memory_swap_limit);
    memory.set_swap(swap.or(limit));

    let mut built = LinuxResources::default();
    built.set_devices(None);
    built.set_cpu(Some(cpu));
    built.set_memory(Some(memory));
    built.set_hugepage_limits(Some(hugepages(resources)?));
    let unified: HashMap<_, _> = resources.unified.clone().into_iter().collect();
    built.set_unified((!unified.is_empty()).then_some(unified));
    Ok(built)
}

fn check(resources: &Resources) -> Result<(), Error> {
    let negative = |field, value: i64| match value {
        0.. => Ok(()),
        _ => Err(Error::invalid(field, format!("{value} must not be negative"))),
    };
    negative("resources.cpu_period", resources.cpu_period)?;
    negative("resources.cpu_shares", resources.cpu_shares)?;
    for (field, list) in [
        ("resources.cpuset_cpus", &resources.cpuset_cpus),
        ("resources.cpuset_mems", &resources.cpuset_mems),
    ] {
        // The kernel takes more, such as a line that follows; nobody asks for that.
        if !list.bytes().all(|byte| byte.is_ascii_digit() || b",-:/".contains(&byte)) {
            let reason = format!("{list:?} must be a list such as 0-2,7");
            return Err(Error::invalid(field, reason));
        }
    }
    if resources.memory_limit < -1 {
        let reason = format!("{} must be a number of bytes", resources.memory_limit);
        return Err(Error::invalid("resources.memory_limit_in_bytes", reason));
    }
    if !(-1000..=1000).contains(&resources.oom_score_adj) {
        let reason = format!("{} must be between -1000 and 1000", resources.oom_score_adj);
        return Err(Error::invalid("resources.oom_score_adj", reason));
    }
    let swap = resources.memory_swap_limit;
    if swap > 0 && resources.memory_limit > swap {
        let reason = format!(
            "{swap} must be at least the memory limit, {}; it counts memory and swap together",
            resources.memory_limit
        );
        return Err(Error::invalid("resources.memory_swap_limit_in_bytes", reason));
    }
    Ok(())
}

fn hugepages(resources: &Resources) -> Result<Vec<LinuxHugepageLimit>, Error> {
    let field = "resources.hugepage_limits";
    resources
        .hugepage_limits
        .iter()
        .map(|(size, limit)| {
            // The kernel names its files by the size: 64KB, 2MB, 1GB.
            let unit = size.trim_start_matches(|c: char| c.is_ascii_digit());
            if unit.len() == size.len() || !["KB", "MB", "GB"].contains(&unit) {
                let reason = format!("page size {size:?} must look like 2MB or 1GB");
                return Err(Error::invalid(field, reason));
            }
            let limit = i64::try_from(*limit)
                .map_err(|_| Error::invalid(field, format!("{limit} bytes are too many")))?;
            LinuxHugepageLimitBuilder::default()
                .page_size(size.clone())
                .limit(limit)
                .build()
                .map_err(|error| Error::invalid(field, error.to_string()))
        })
        .collect()
}

/// What is in force after an update that names only some of the limits.
pub fn merge(old: &Resources, update: &Resources) -> Resources {
    let number = |old: i64, new: i64| if new == 0 { old } else { new };
    let text = |old: &String, new: &String| if new.is_empty() { old.clone() } else { new.clone() };
    let mut unified = old.unified.clone();
    unified.extend(update.unified.clone());
    Resources {
        cpu_period: number(old.cpu_period, update.cpu_period),
        cpu_quota: number(old.cpu_quota, update.cpu_quota),
        cpu_shares: number(old.cpu_shares, update.cpu_shares),
        memory_limit: number(old.memory_limit, update.memory_limit),
        oom_score_adj: number(old.oom_score_adj, update.oom_score_adj),
        cpuset_cpus: text(&old.cpuset_cpus, &update.cpuset_cpus),
        cpuset_mems: text(&old.cpuset_mems, &update.cpuset_mems),
        hugepage_limits: match update.hugepage_limits.as_slice() {
            [] => old.hugepage_limits.clone(),
            limits => limits.to_vec(),
        },
        unified,
        memory_swap_limit: match update.memory_limit {
            // A limit of both together goes with that of memory.
            -1 => update.memory_swap_limit,
            _ => number(old.memory_swap_limit, update.memory_swap_limit),
        },
    }
}

/// The limits of a pod's cgroup: what its containers need together, and what the pod needs
/// beside them. What the containers have no limit of, the pod has none of; swap it has one of
/// only where that is named, since containers have limits of their own.
///
/// # Errors
/// Numbers that no kernel takes.
pub fn of_pod(
    overhead: Option<&Resources>,
    needs: Option<&Resources>,
) -> Result<LinuxResources, Error> {
    let (none, nothing) = (Resources::default(), Resources::default());
    let (overhead, needs) = (overhead.unwrap_or(&none), needs.unwrap_or(&nothing));
    let both =
        |need: i64, more: i64| if need > 0 { need.saturating_add(more.max(0)) } else { need };
    let period = |resources: &Resources| match resources.cpu_period {
        0 => 100_000,
        period => period.max(1),
    };
    // In periods of the containers.
    let more = i128::from(overhead.cpu_quota) * i128::from(period(needs));
    let more = i64::try_from(more / i128::from(period(overhead))).unwrap_or(i64::MAX);
    let total = Resources {
        cpu_quota: both(needs.cpu_quota, more),
        cpu_shares: needs.cpu_shares.saturating_add(overhead.cpu_shares),
        memory_limit: both(needs.memory_limit, overhead.memory_limit),
        memory_swap_limit: both(needs.memory_swap_limit, overhead.memory_limit),
        ..needs.clone()
    };
    let mut built = build(&total)?;
    if total.memory_swap_limit == 0
        && let Some(memory) = built.memory_mut()
    {
        memory.set_swap(None);
    }
    Ok(built)
}

#[cfg(test)]
mod tests {
    use super::{build, merge, of_pod};
    use crate::spec::config::Resources;

    #[test]
    fn a_memory_limit_without_swap_allows_none() {
        let resources = Resources { memory_limit: 1000, ..Resources::default() };
        let memory = build(&resources).unwrap().memory().unwrap();
        assert_eq!((memory.limit(), memory.swap()), (Some(1000), Some(1000)));
    }

    #[test]
    fn wrong_numbers_are_named() {
        for (resources, field) in [
            (Resources { cpu_period: -1, ..Resources::default() }, "cpu_period"),
            (Resources { cpuset_cpus: "0\n1".to_owned(), ..Resources::default() }, "cpuset_cpus"),
            (Resources { cpuset_mems: "all".to_owned(), ..Resources::default() }, "cpuset_mems"),
            (Resources { oom_score_adj: 1001, ..Resources::default() }, "oom_score_adj"),
            (
                Resources { memory_limit: 10, memory_swap_limit: 5, ..Resources::default() },
                "memory_swap_limit_in_bytes",
            ),
            (
                Resources { hugepage_limits: vec![("2M".to_owned(), 1)], ..Resources::default() },
                "hugepage_limits",
            ),
        ] {
            let error = build(&resources).unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
    }

    #[test]
    fn a_pod_needs_what_its_containers_need_and_more() {
        let needs = Resources {
            cpu_period: 50_000,
            cpu_quota: 25_000,
            cpu_shares: 512,
            memory_limit: 1000,
            ..Resources::default()
        };
        let overhead = Resources {
            cpu_quota: 10_000,
            cpu_shares: 2,
            memory_limit: 24,
            ..Resources::default()
        };
        let built = of_pod(Some(&overhead), Some(&needs)).unwrap();
        let (cpu, memory) = (built.cpu().clone().unwrap(), built.memory().unwrap());
        assert_eq!((cpu.quota(), cpu.period()), (Some(30_000), Some(50_000)));
        assert_eq!(cpu.shares(), Some(514));
        assert_eq!((memory.limit(), memory.swap()), (Some(1024), None));
        // Containers without limits: the overhead is none of theirs.
        let built = of_pod(Some(&overhead), None).unwrap();
        assert_eq!(built.memory().unwrap().limit(), None);
        assert_eq!(built.cpu().clone().unwrap().quota(), None);
        assert!(of_pod(None, Some(&Resources { cpu_shares: -1, ..needs })).is_err());
    }

    #[test]
    fn an_update_keeps_what_it_does_not_name() {
        let old = Resources { cpu_shares: 2, memory_limit: 5, ..Resources::default() };
        let update = Resources { memory_limit: 6, ..Resources::default() };
        let merged = merge(&old, &update);
        assert_eq!((merged.cpu_shares, merged.memory_limit), (2, 6));
    }

    #[test]
    fn a_limit_that_is_taken_away_takes_that_of_swap_along() {
        let old = Resources { memory_limit: 5, memory_swap_limit: 7, ..Resources::default() };
        let update = Resources { memory_limit: -1, cpu_quota: -1, ..Resources::default() };
        let built = build(&merge(&old, &update)).unwrap();
        let memory = built.memory().unwrap();
        assert_eq!((memory.limit(), memory.swap()), (Some(-1), Some(-1)));
        assert_eq!(built.cpu().as_ref().unwrap().quota(), Some(-1));
    }
}
