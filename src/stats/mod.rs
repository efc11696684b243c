//! What pods and containers use, read from the kernel.
//!
//! Entry point: [`Meter`], one for each cgroup that is looked at. Every figure carries the time
//! of its reading; one that the kernel does not give is absent, never zero. The module does not
//! know who asks.

mod details;
mod devices;
mod disk;
mod memory;
mod meter;
mod network;
mod processes;
mod source;
mod still;
#[cfg(test)]
mod tests;
mod text;

pub use details::{Details, Device, Hugepages, hugepage_pools};
pub use devices::DeviceNames;
pub use disk::{Disk, look as disk};
pub use meter::Meter;
pub use network::{Interface, Interfaces};
pub use processes::{Processes, count as processes};
pub use source::Budget;

/// Shares of time in which tasks waited (`Documentation/accounting/psi.rst`).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Waited,
    /// All tasks waited.
    pub full: Waited,
}

/// How long, in percent over three windows and in microseconds altogether.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Waited {
    /// Over ten seconds.
    pub avg10: f64,
    /// Over a minute.
    pub avg60: f64,
    /// Over five minutes.
    pub avg300: f64,
    /// Microseconds since the cgroup was made.
    pub total: u64,
}

/// Processor time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cpu {
    /// Nanoseconds since the cgroup was made.
    pub usage: u64,
    /// Nanoseconds per second over the last seconds; unknown until there are two readings.
    pub nano_cores: Option<u64>,
    /// What it went to, where that is in the same file (version 2).
    pub times: Times,
    /// Waiting for a processor.
    pub pressure: Option<Pressure>,
}

/// What processor time went to, in nanoseconds, and when there was none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// In programs.
    pub user: Option<u64>,
    /// In the kernel.
    pub system: Option<u64>,
    /// Periods of the limit, once there was one.
    pub periods: Option<u64>,
    /// Those in which there was more to do than the limit allowed.
    pub throttled_periods: Option<u64>,
    /// How long was waited in those.
    pub throttled: Option<u64>,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Memory {
    /// All that is charged.
    pub usage: Option<u64>,
    /// What could not be given back at once: usage without inactive file cache.
    pub working_set: Option<u64>,
    /// What is left up to the limit; none without one.
    pub available: Option<u64>,
    /// The limit; none without one.
    pub limit: Option<u64>,
    /// Anonymous memory.
    pub rss: Option<u64>,
    /// Page faults.
    pub faults: Option<u64>,
    /// Those for which something was read.
    pub major_faults: Option<u64>,
    /// What else the kernel says.
    pub parts: Parts,
    /// Waiting for memory.
    pub pressure: Option<Pressure>,
}

/// What memory is used for, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts {
    /// Content of files.
    pub cache: Option<u64>,
    /// That of it which is mapped.
    pub mapped_file: Option<u64>,
    /// That of it which was used not long ago.
    pub active_file: Option<u64>,
    /// That of it which was not.
    pub inactive_file: Option<u64>,
    /// The kernel's own; on version 1 it is among the details.
    pub kernel: Option<u64>,
    /// Page faults of this cgroup's own processes, without those of the cgroups below.
    pub own_faults: Option<u64>,
    /// Those for which something was read.
    pub own_major_faults: Option<u64>,
}

/// Swap, in bytes; there is none where the kernel does not account for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swap {
    /// What is in use.
    pub usage: u64,
    /// What is left up to the limit; none without one.
    pub available: Option<u64>,
    /// The limit as the kernel has it, on version 1 of memory and swap together; none without
    /// one.
    pub limit: Option<u64>,
}

/// One reading of a cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Reading {
    /// When processor time was read, in nanoseconds since the epoch.
    pub at: i64,
    /// When everything else was: some seconds earlier where no program has run since.
    pub rest_at: i64,
    /// Processor time.
    pub cpu: Option<Cpu>,
    /// Memory.
    pub memory: Memory,
    /// Swap.
    pub swap: Option<Swap>,
    /// Waiting for devices.
    pub io: Option<Pressure>,
}
