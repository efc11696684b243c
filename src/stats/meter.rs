//! One cgroup, read in one pass.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    Budget, Cpu, Details, Memory, Reading, Swap, Times,
    details::Sources,
    memory::{self, Stat},
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
    details: Sources,
    /// Where the processes are listed.
    directory: PathBuf,
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
        let details = Sources::open(version, &cgroup, budget);
        let list = cgroup.file_of("pids", "cgroup.procs");
        let directory = list.parent().unwrap_or(&list).to_owned();
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
                details,
                directory,
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
                details,
                directory,
                rate: Mutex::default(),
            },
        })
    }

    /// Takes note of the processor time, so that its rate is known when somebody asks.
    pub fn sample(&self) {
        if let Some((usage, _)) = self.cpu_usage() {
            self.rate(usage);
        }
    }

    /// The directory whose `cgroup.procs` lists the processes.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reads what [`Meter::read`] leaves out, of huge pages of these sizes. Waits for the
    /// kernel alone.
    pub fn details(&self, hugepages: &BTreeSet<String>) -> Details {
        self.details.read(now(), hugepages)
    }

    /// Reads everything. Waits for the kernel alone.
    pub fn read(&self) -> Reading {
        let at = now();
        let [cpu, memory, io] = match &self.pressure {
            Some(sources) => sources.each_ref().map(|source| pressure(&source.read()?)),
            None => [None; 3],
        };
        let usage = self.cpu_usage();
        Reading {
            at,
            cpu: usage.map(|(usage, times)| Cpu {
                usage,
                nano_cores: self.rate(usage),
                times,
                pressure: cpu,
            }),
            memory: Memory { pressure: memory, ..self.memory() },
            swap: self.swap(),
            io,
            processes: self.processes.read().as_deref().and_then(number),
        }
    }

    /// In nanoseconds.
    fn cpu_usage(&self) -> Option<(u64, Times)> {
        let text = self.cpu.read()?;
        if self.version == Version::V1 {
            return Some((number(&text)?, Times::default()));
        }
        let nanoseconds = |key| keyed(&text, key)?.checked_mul(1000);
        let times = Times {
            user: nanoseconds("user_usec"),
            system: nanoseconds("system_usec"),
            periods: keyed(&text, "nr_periods"),
            throttled_periods: keyed(&text, "nr_throttled"),
            throttled: nanoseconds("throttled_usec"),
        };
        Some((nanoseconds("usage_usec")?, times))
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
        let stat = self.memory_stat.read();
        let Stat { rss, faults, major_faults, parts } =
            stat.map(|text| memory::parse(self.version, &text)).unwrap_or_default();
        let inactive = parts.inactive_file.unwrap_or(0);
        let working_set = usage.map(|usage| usage.saturating_sub(inactive));
        Memory {
            usage,
            working_set,
            available: limit.zip(working_set).map(|(limit, used)| limit.saturating_sub(used)),
            limit,
            rss,
            faults,
            major_faults,
            parts,
            pressure: None,
        }
    }

    fn swap(&self) -> Option<Swap> {
        let usage = number(&self.swap.read()?)?;
        let limit = self.swap_limit.read().as_deref().and_then(number);
        let left = |limit: u64, usage| limit.saturating_sub(usage);
        match self.version {
            Version::V2 => {
                Some(Swap { usage, available: limit.map(|limit| left(limit, usage)), limit })
            }
            // Memory and swap together.
            Version::V1 => {
                let memory = number(&self.memory.read()?)?;
                let memory_limit = self.memory_limit.read().as_deref().and_then(number);
                let usage = usage.saturating_sub(memory);
                let alone = limit.zip(memory_limit).map(|(both, one)| both.saturating_sub(one));
                Some(Swap { usage, available: alone.map(|limit| left(limit, usage)), limit })
            }
        }
    }
}

fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0, |elapsed| elapsed.as_nanos() as i64)
}
