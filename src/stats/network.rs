//! The interfaces of a network namespace.

use std::fs;

use super::{
    Budget,
    source::{MAX, Source},
};

/// What went through one interface since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the pod.
    pub name: String,
    /// Bytes that came.
    pub rx_bytes: u64,
    /// Packets that came.
    pub rx_packets: u64,
    /// Packets that came and were broken.
    pub rx_errors: u64,
    /// Packets that came and were dropped.
    pub rx_dropped: u64,
    /// Bytes that were sent.
    pub tx_bytes: u64,
    /// Packets that were sent.
    pub tx_packets: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets that were dropped instead of being sent.
    pub tx_dropped: u64,
}

/// The interfaces of the network namespace of a process, but for loopback
/// (`/proc/PID/net/dev`). The namespace is there for as long as this is.
#[derive(Debug)]
pub struct Interfaces {
    path: String,
    source: Source,
}

impl Interfaces {
    /// Those of a process.
    pub fn of(pid: u32, budget: &Budget) -> Self {
        let path = format!("/proc/{pid}/net/dev");
        Self { source: Source::new(path.clone().into(), budget), path }
    }

    /// What there is now; nothing where the process had ended at the first reading.
    pub fn read(&self) -> Option<Vec<Interface>> {
        let whole = |text: &str| (text.len() < MAX).then(|| parse(text));
        let more = || fs::read_to_string(&self.path).ok().map(|text| parse(&text));
        self.source.read(|text| Some(whole(text)))?.or_else(more)
    }
}

pub(super) fn parse(text: &str) -> Vec<Interface> {
    let interface = |line: &str| {
        let (name, figures) = line.split_once(':')?;
        let figures: Vec<u64> = figures.split_whitespace().flat_map(str::parse).collect();
        // Eight of what came, then eight of what was sent: bytes, packets, errors and others.
        Some(Interface {
            name: name.trim().to_owned(),
            rx_bytes: *figures.first()?,
            rx_packets: *figures.get(1)?,
            rx_errors: *figures.get(2)?,
            rx_dropped: *figures.get(3)?,
            tx_bytes: *figures.get(8)?,
            tx_packets: *figures.get(9)?,
            tx_errors: *figures.get(10)?,
            tx_dropped: *figures.get(11)?,
        })
    };
    text.lines().skip(2).filter_map(interface).filter(|interface| interface.name != "lo").collect()
}
