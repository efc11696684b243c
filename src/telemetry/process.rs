//! What a process takes, from `/proc`.

use std::{fs, io, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// The memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// What of it is in memory, shared pages included (`VmRSS`).
    pub resident: u64,
    /// What of that nobody shares (`RssAnon`).
    pub private: u64,
    /// Its address space (`VmSize`).
    pub size: u64,
    /// Its threads.
    pub threads: u64,
}

impl Memory {
    /// That of a process. Waits for nobody: the kernel only reads counters.
    ///
    /// # Errors
    /// A process that has ended.
    pub fn of(pid: u32) -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string(format!("/proc/{pid}/status"))?))
    }

    fn parse(status: &str) -> Self {
        let value = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            number.unwrap_or(0)
        };
        Self {
            resident: value("VmRSS") << 10,
            private: value("RssAnon") << 10,
            size: value("VmSize") << 10,
            threads: value("Threads"),
        }
    }
}

/// The processor time that this process has taken.
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Descriptors that this process has, and how many it may have.
///
/// # Errors
/// What `/proc` does not tell.
pub fn descriptors() -> io::Result<(usize, u64)> {
    let open = fs::read_dir("/proc/self/fd")?.count();
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    // The directory itself is one of them.
    Ok((open.saturating_sub(1), most.unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::Memory;

    #[test]
    fn memory_is_that_of_the_kernel() {
        let status = "Name:\tx\nVmSize:\t  100 kB\nVmRSS:\t   7 kB\nRssAnon:\t 3 kB\nThreads:\t2\n";
        let expected = Memory { resident: 7 << 10, private: 3 << 10, size: 100 << 10, threads: 2 };
        assert_eq!(Memory::parse(status), expected);
        let own = Memory::of(std::process::id()).unwrap();
        assert!(own.private > 0 && own.private < own.resident && own.threads > 0, "{own:?}");
    }
}
