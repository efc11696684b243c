//! One cgroup, read in one pass.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    Budget, Cpu, Memory, Reading, Swap,
    source::Source,
    text::{keyed, number, pressure},
};
use crate::runtime::cgroup::{Cgroup, Version};

/// Two readings of processor time that are nearer than this tell nothing of its rate.
const SHORTEST: Duration = Duration::from_secs(1);

/// What is read of one cgroup.
#[derive(Debug)]
pub struct Meter {
    version: Version,
    cpu: Source,
    memory: Source,
    memory_stat: Source,
    memory_limit: Source,
    swap: Source,
    swap_limit: Source,
    processes: Source,
    /// Of processor, memory and devices; on version 2 alone.
    pressure: Option<[Source; 3]>,
    // Held for one comparison.
    rate: Mutex<Rate>,
}

/// From which the rate of processor time is known.
#[derive(Debug, Default)]
struct Rate {
    last: Option<(Instant, u64)>,
    nano_cores: Option<u64>,
}

impl Meter {
    /// A meter of the cgroup at `path`; none where it is not there.
    pub fn open(version: Version, path: &Path, budget: &Budget) -> Option<Self> {
        let cgroup = Cgroup::open(version, path).ok()?;
        let file =
            |controller: &str, name: &str| Source::new(cgroup.file_of(controller, name), budget);
        Some(match version {
            Version::V2 => Self {
                version,
                cpu: file("", "cpu.stat"),
                memory: file("", "memory.current"),
                memory_stat: file("", "memory.stat"),
                memory_limit: file("", "memory.max"),
                swap: file("", "memory.swap.current"),
                swap_limit: file("", "memory.swap.max"),
                processes: file("", "pids.current"),
                pressure: Some(
                    ["cpu.pressure", "memory.pressure", "io.pressure"].map(|name| file("", name)),
                ),
                rate: Mutex::default(),
            },
            Version::V1 => Self {
                version,
                cpu: file("cpuacct", "cpuacct.usage"),
                memory: file("memory", "memory.usage_in_bytes"),
                memory_stat: file("memory", "memory.stat"),
                memory_limit: file("memory", "memory.limit_in_bytes"),
                swap: file("memory", "memory.memsw.usage_in_bytes"),
                swap_limit: file("memory", "memory.memsw.limit_in_bytes"),
                processes: file("pids", "pids.current"),
                pressure: None,
                rate: Mutex::default(),
            },
        })
    }

    /// Takes note of the processor time, so that its rate is known when somebody asks.
    pub fn sample(&self) {
        if let Some(usage) = self.cpu_usage() {
            self.rate(usage);
        }
    }

    /// Reads everything. Waits for the kernel alone.
    pub fn read(&self) -> Reading {
        let at = SystemTime::now().duration_since(UNIX_EPOCH);
        let at = at.map_or(0, |elapsed| elapsed.as_nanos() as i64);
        let [cpu, memory, io] = match &self.pressure {
            Some(sources) => sources.each_ref().map(|source| pressure(&source.read()?)),
            None => [None; 3],
        };
        let usage = self.cpu_usage();
        Reading {
            at,
            cpu: usage.map(|usage| Cpu { usage, nano_cores: self.rate(usage), pressure: cpu }),
            memory: Memory { pressure: memory, ..self.memory() },
            swap: self.swap(),
            io,
            processes: self.processes.read().as_deref().and_then(number),
        }
    }

    /// In nanoseconds.
    fn cpu_usage(&self) -> Option<u64> {
        let text = self.cpu.read()?;
        match self.version {
            Version::V2 => keyed(&text, "usage_usec")?.checked_mul(1000),
            Version::V1 => number(&text),
        }
    }

    fn rate(&self, usage: u64) -> Option<u64> {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let Some((then, before)) = rate.last else {
            rate.last = Some((now, usage));
            return None;
        };
        let elapsed = now - then;
        if elapsed >= SHORTEST {
            let used = u128::from(usage.saturating_sub(before)) * 1_000_000_000;
            rate.nano_cores = u64::try_from(used / elapsed.as_nanos()).ok();
            rate.last = Some((now, usage));
        }
        rate.nano_cores
    }

    fn memory(&self) -> Memory {
        let usage = self.memory.read().as_deref().and_then(number);
        let limit = self.memory_limit.read().as_deref().and_then(number);
        let stat = self.memory_stat.read().unwrap_or_default();
        // Version 1 has figures of the cgroup alone under the bare names.
        let value = |name: &str| match self.version {
            Version::V2 => keyed(&stat, name),
            Version::V1 => keyed(&stat, &format!("total_{name}")),
        };
        let inactive = value("inactive_file").unwrap_or(0);
        let working_set = usage.map(|usage| usage.saturating_sub(inactive));
        let rss = match self.version {
            Version::V2 => value("anon"),
            Version::V1 => value("rss"),
        };
        Memory {
            usage,
            working_set,
            available: limit.zip(working_set).map(|(limit, used)| limit.saturating_sub(used)),
            rss,
            faults: value("pgfault"),
            major_faults: value("pgmajfault"),
            pressure: None,
        }
    }

    fn swap(&self) -> Option<Swap> {
        let usage = number(&self.swap.read()?)?;
        let limit = self.swap_limit.read().as_deref().and_then(number);
        match self.version {
            Version::V2 => {
                Some(Swap { usage, available: limit.map(|limit| limit.saturating_sub(usage)) })
            }
            // Memory and swap together.
            Version::V1 => {
                let memory = number(&self.memory.read()?)?;
                let memory_limit = self.memory_limit.read().as_deref().and_then(number);
                let usage = usage.saturating_sub(memory);
                let limit = limit.zip(memory_limit).map(|(both, one)| both.saturating_sub(one));
                Some(Swap { usage, available: limit.map(|limit| limit.saturating_sub(usage)) })
            }
        }
    }
}
