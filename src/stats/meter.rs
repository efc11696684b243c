//! One cgroup, read in one pass.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    Budget, Cpu, Details, Memory, Pressure, Reading, Swap, Times,
    details::Sources,
    memory::{self, Stat},
    source::Source,
    text::{keyed, number, pressure},
};
use crate::runtime::cgroup::{Cgroup, Version};

/// Two readings of processor time that are nearer than this tell nothing of its rate.
const SHORTEST: Duration = Duration::from_secs(1);

/// For so long a cgroup in which no program has run, and none waited for anything, is taken for
/// unchanged: memory is charged to whoever runs.
const UNCHANGED: Duration = Duration::from_secs(10);

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
    // Held while they are read.
    limits: Mutex<Option<Limits>>,
    // Held for one comparison.
    still: Mutex<Still>,
}

/// What was read when something last happened in a cgroup. Most containers of a node wait for
/// something most of the time, and the long files are most of the work.
#[derive(Debug, Default)]
struct Still {
    reading: Option<(Instant, Reading)>,
    details: Option<(Instant, u64, Details)>,
}

impl Still {
    /// What was read with the same processor time, not long ago.
    fn reading(&self, cpu: u64) -> Option<Reading> {
        let (at, reading) = self.reading?;
        let known = reading.cpu?;
        let waits = [known.pressure, reading.memory.pressure, reading.io];
        let is_still =
            known.usage == cpu && at.elapsed() < UNCHANGED && waits.into_iter().all(is_free);
        is_still.then_some(reading)
    }

    fn details(&self, cpu: u64) -> Option<Details> {
        let (at, then, details) = self.details.as_ref()?;
        (*then == cpu && at.elapsed() < UNCHANGED).then(|| details.clone())
    }
}

/// Whether nobody has waited of late. Who waits for a disk does not run either.
fn is_free(pressure: Option<Pressure>) -> bool {
    pressure.is_none_or(|pressure| pressure.some.avg10 == 0.0 && pressure.full.avg10 == 0.0)
}

/// Limits as the kernel has them, in bytes; none without one.
#[derive(Debug, Clone, Copy)]
struct Limits {
    memory: Option<u64>,
    swap: Option<u64>,
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
                limits: Mutex::default(),
                still: Mutex::default(),
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
                limits: Mutex::default(),
                still: Mutex::default(),
            },
        })
    }

    /// Takes note of the processor time, so that its rate is known when somebody asks, and
    /// reads the limits anew at the next reading: who else has set them is seen by then.
    pub fn sample(&self) {
        self.forget_limits();
        if let Some((usage, _)) = self.cpu_usage() {
            self.rate(usage);
        }
    }

    /// The limits have changed, and with them what is left.
    pub fn forget_limits(&self) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.still().reading = None;
    }

    /// Limits change seldom, and are a third of what there is to read.
    fn limits(&self) -> Limits {
        let mut known = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        *known.get_or_insert_with(|| Limits {
            memory: self.memory_limit.read(number),
            swap: self.swap_limit.read(number),
        })
    }

    /// Processes and threads.
    pub fn threads(&self) -> Option<u64> {
        self.processes.read(number)
    }

    /// The directory whose `cgroup.procs` lists the processes.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn still(&self) -> MutexGuard<'_, Still> {
        self.still.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what [`Meter::read`] left out a moment ago, of huge pages of these sizes. Waits
    /// for the kernel alone.
    pub fn details(&self, reading: &Reading, hugepages: &BTreeSet<String>) -> Details {
        let at = now();
        let cpu = reading.cpu.map(|cpu| cpu.usage);
        let known = cpu.and_then(|cpu| self.still().details(cpu));
        if let Some(details) = known {
            // What others write for it to a disk is counted without it.
            return Details { at, devices: self.details.devices(), ..details };
        }
        let details = Details { threads: self.threads(), ..self.details.read(at, hugepages) };
        if let Some(cpu) = cpu {
            self.still().details = Some((Instant::now(), cpu, details.clone()));
        }
        details
    }

    /// Reads everything else. Waits for the kernel alone.
    pub fn read(&self) -> Reading {
        let at = now();
        let usage = self.cpu_usage();
        let used = |pressure| {
            let (usage, times) = usage?;
            Some(Cpu { usage, nano_cores: self.rate(usage), times, pressure })
        };
        let known = usage.and_then(|(usage, _)| self.still().reading(usage));
        if let Some(known) = known {
            return Reading { at, cpu: used(known.cpu.and_then(|cpu| cpu.pressure)), ..known };
        }
        let [cpu, memory, io] = match &self.pressure {
            Some(sources) => sources.each_ref().map(|source| source.read(pressure)),
            None => [None; 3],
        };
        let limits = self.limits();
        let in_use = self.memory(limits.memory);
        let reading = Reading {
            at,
            rest_at: at,
            cpu: used(cpu),
            swap: self.swap(&in_use, limits.swap),
            memory: Memory { pressure: memory, ..in_use },
            io,
        };
        self.still().reading = Some((Instant::now(), reading));
        reading
    }

    /// In nanoseconds.
    fn cpu_usage(&self) -> Option<(u64, Times)> {
        if self.version == Version::V1 {
            return Some((self.cpu.read(number)?, Times::default()));
        }
        self.cpu.read(|text| {
            let nanoseconds = |key| keyed(text, key)?.checked_mul(1000);
            let times = Times {
                user: nanoseconds("user_usec"),
                system: nanoseconds("system_usec"),
                periods: keyed(text, "nr_periods"),
                throttled_periods: keyed(text, "nr_throttled"),
                throttled: nanoseconds("throttled_usec"),
            };
            Some((nanoseconds("usage_usec")?, times))
        })
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

    fn memory(&self, limit: Option<u64>) -> Memory {
        let usage = self.memory.read(number);
        let stat = self.memory_stat.read(|text| Some(memory::parse(self.version, text)));
        let Stat { rss, faults, major_faults, parts } = stat.unwrap_or_default();
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

    fn swap(&self, memory: &Memory, limit: Option<u64>) -> Option<Swap> {
        let usage = self.swap.read(number)?;
        let left = |limit: u64, usage| limit.saturating_sub(usage);
        match self.version {
            Version::V2 => {
                Some(Swap { usage, available: limit.map(|limit| left(limit, usage)), limit })
            }
            // Memory and swap together.
            Version::V1 => {
                let usage = usage.saturating_sub(memory.usage?);
                let alone = limit.zip(memory.limit).map(|(both, one)| both.saturating_sub(one));
                Some(Swap { usage, available: alone.map(|limit| left(limit, usage)), limit })
            }
        }
    }
}

fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0, |elapsed| elapsed.as_nanos() as i64)
}
