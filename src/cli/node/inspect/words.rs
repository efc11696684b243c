//! Facts, lists and limits in words.

use serde_json::Value;

use crate::{
    cli::{
        image::size,
        node::{snapshot::Usage, table::percent},
        text::wrapped,
    },
    cri::v1::LinuxContainerResources,
};

/// Where the values of facts begin.
pub(super) const INDENT: usize = 18;

/// Weights of processors when nobody has said anything (`cpu.shares`).
const USUAL_SHARES: i64 = 1024;

/// A name and what is to be said of it.
pub(super) fn fact(text: &mut String, name: &str, value: &str) {
    let value = if value.is_empty() { "-" } else { value };
    wrapped(text, &format!("  {name:width$}", width = INDENT - 2), INDENT, value);
}

/// One that is left out where there is nothing to say.
pub(super) fn fact_if(text: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        fact(text, name, value);
    }
}

/// `name=value` of an object.
pub(super) fn pairs(value: &Value) -> String {
    let pairs = value.as_object().into_iter().flatten();
    let pairs: Vec<String> =
        pairs.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or("?"))).collect();
    pairs.join(" ")
}

/// The texts of a list.
pub(super) fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What is used.
pub(super) fn usage(usage: &Usage) -> String {
    let cpu = usage.cpu_nano_cores.map(|cores| format!("{} of a processor", percent(cores)));
    let memory = usage.memory_bytes.map(|bytes| format!("{} of memory", size(bytes)));
    let words: Vec<String> = cpu.into_iter().chain(memory).collect();
    if words.is_empty() { "nothing is known".to_owned() } else { words.join(", ") }
}

/// What may be used.
pub(super) fn limits(limits: &LinuxContainerResources) -> String {
    let mut words = Vec::new();
    let bytes = |bytes: i64| binary(u64::try_from(bytes).unwrap_or(0));
    if limits.memory_limit_in_bytes > 0 {
        words.push(format!("memory {}", bytes(limits.memory_limit_in_bytes)));
    }
    let (memory, swap) = (limits.memory_limit_in_bytes, limits.memory_swap_limit_in_bytes);
    if swap > 0 && swap != memory {
        words.push(format!("memory and swap {}", bytes(swap)));
    }
    let (quota, period) = (limits.cpu_quota, limits.cpu_period);
    if quota > 0 && period > 0 {
        let processors = quota as f64 / period as f64;
        let (quota, period) = (milliseconds(quota), milliseconds(period));
        words.push(format!("{processors:.2} processors ({quota} in each {period} ms)"));
    }
    if limits.cpu_shares > 0 && limits.cpu_shares != USUAL_SHARES {
        words.push(format!("weight {} (usual: {USUAL_SHARES})", limits.cpu_shares));
    }
    for (what, set) in [("processors", &limits.cpuset_cpus), ("memory nodes", &limits.cpuset_mems)]
    {
        if !set.is_empty() {
            words.push(format!("{what} {set}"));
        }
    }
    let huge = limits.hugepage_limits.iter().filter(|huge| huge.limit > 0);
    words.extend(huge.map(|huge| format!("pages of {} {}", huge.page_size, size(huge.limit))));
    let mut unified: Vec<_> =
        limits.unified.iter().map(|(name, value)| format!("{name}={value}")).collect();
    unified.sort();
    words.extend(unified);
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

/// In the unit that limits are mostly written in, where it is a whole number of those.
fn binary(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole = units.iter().find(|(_, shift)| bytes >> shift << shift == bytes && bytes > 0);
    match whole {
        Some((unit, shift)) => format!("{} {unit}", bytes >> shift),
        None => size(bytes),
    }
}

fn milliseconds(microseconds: i64) -> String {
    match microseconds % 1000 {
        0 => (microseconds / 1000).to_string(),
        _ => format!("{:.1}", microseconds as f64 / 1000.0),
    }
}

/// The limits of the verbose status of a pod, in the shape of the CRI.
pub(super) fn pod_limits(value: &Value) -> LinuxContainerResources {
    let number = |name: &str| value[name].as_i64().unwrap_or(0);
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    LinuxContainerResources {
        cpu_period: number("cpu_period"),
        cpu_quota: number("cpu_quota"),
        cpu_shares: number("cpu_shares"),
        memory_limit_in_bytes: number("memory_limit_in_bytes"),
        memory_swap_limit_in_bytes: number("memory_swap_limit_in_bytes"),
        cpuset_cpus: text("cpuset_cpus"),
        cpuset_mems: text("cpuset_mems"),
        ..LinuxContainerResources::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_in_words() {
        assert_eq!(limits(&LinuxContainerResources::default()), "none");
        let some = LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: 50_000,
            cpu_shares: 512,
            memory_limit_in_bytes: 64 << 20,
            memory_swap_limit_in_bytes: 64 << 20,
            cpuset_cpus: "0-1".to_owned(),
            ..LinuxContainerResources::default()
        };
        assert_eq!(
            limits(&some),
            "memory 64 MiB, 0.50 processors (50 in each 100 ms), weight 512 (usual: 1024), \
             processors 0-1"
        );
    }
}
