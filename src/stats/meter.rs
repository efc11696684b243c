//! One cgroup, read in one pass.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    Budget, Cpu, Details, Memory, Reading, Swap, Times,
    details::Sources,
    memory::{self, Stat},
    source::Source,
    still::Still,
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
    // Held while they are read.
    limits: Mutex<Option<Limits>>,
    // Held for one comparison.
    still: Mutex<Still>,
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
        self.still().forget_reading();
    }

    /// Limits change seldom, and are a third of what there is to read.
    fn limits(&self) -> Limits {
        let mut known = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        *known.get_or_insert_with(|| Limits {
            memory: self.memory_limit.read(number),
            swap: self.swap_limit.read(number),
        })
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
    pub fn details(&self, reading: &Reading, hugepages: &BTreeSet<String>) -> Arc<Details> {
        let cpu = reading.cpu.map(|cpu| cpu.usage);
        let known = cpu.and_then(|cpu| self.still().details(cpu));
        match known {
            // What is written to a disk later counts for nobody.
            Some(known) if self.version == Version::V1 => return known,
            Some(known) => {
                // What others write for it to a disk is counted without it.
                let devices = self.details.devices();
                return match known.devices == devices {
                    true => known,
                    false => Arc::new(Details { at: now(), devices, ..Details::clone(&known) }),
                };
            }
            None => {}
        }
        let threads = self.processes.read(number);
        let details = Details { threads, ..self.details.read(now(), hugepages) };
        let details = Arc::new(details);
        if let Some(cpu) = cpu {
            self.still().note_details(cpu, Arc::clone(&details));
        }
        details
    }

    /// Processes and threads, of a cgroup that was read a moment ago.
    pub fn threads(&self, reading: &Reading) -> Option<u64> {
        let cpu = reading.cpu.map(|cpu| cpu.usage);
        let known = cpu.and_then(|cpu| self.still().threads(cpu));
        known.or_else(|| {
            let threads = self.processes.read(number)?;
            if let Some(cpu) = cpu {
                self.still().note_threads(cpu, threads);
            }
            Some(threads)
        })
    }

    /// Reads everything else; less where nobody has run. `above` is what [`Meter::cpu_time`] of
    /// a cgroup above has just said: where it says the same again, nothing is read at all. Waits
    /// for the kernel alone.
    pub fn read(&self, above: Option<u64>) -> Reading {
        let at = now();
        let known = above.and_then(|above| self.still().reading_below(above));
        if let Some(known) = known {
            let cpu = known.cpu.map(|cpu| Cpu { nano_cores: self.rate(cpu.usage), ..cpu });
            return Reading { at, cpu, ..known };
        }
        let usage = self.cpu_usage();
        let used = |pressure| {
            let (usage, times) = usage?;
            Some(Cpu { usage, nano_cores: self.rate(usage), times, pressure })
        };
        let known = usage.and_then(|(usage, _)| self.still().reading(usage));
        self.still().note_above(above);
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
        self.still().note_reading(reading);
        reading
    }

    /// Processor time that was used in it and below it, in nanoseconds.
    pub fn cpu_time(&self) -> Option<u64> {
        self.cpu_usage().map(|(usage, _)| usage)
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
