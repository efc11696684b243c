//! What is known of a cgroup in which nothing has happened since.
//!
//! Most containers of a node wait for something most of the time, and the long files are most of
//! the work. Whoever changes something has to run: memory is charged to it, and its threads,
//! requests and counters are of its own making.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Details, Pressure, Reading};

/// For so long a cgroup in which no program has run, and none waited for anything, is taken for
/// unchanged.
const UNCHANGED: Duration = Duration::from_secs(10);

/// What was read when something last happened in a cgroup.
#[derive(Debug, Default)]
pub(super) struct Still {
    reading: Option<Known<Reading>>,
    details: Option<Known<Arc<Details>>>,
    threads: Option<Known<u64>>,
    /// Processor time of the cgroup above, in nanoseconds, just before this one was looked at.
    above: Option<u64>,
}

/// Something with the processor time, in nanoseconds, before which it was read.
#[derive(Debug)]
struct Known<T> {
    at: Instant,
    cpu: u64,
    value: T,
}

impl<T> Known<T> {
    fn new(cpu: u64, value: T) -> Self {
        Self { at: Instant::now(), cpu, value }
    }

    fn with(&self, cpu: u64) -> Option<&T> {
        (self.cpu == cpu && self.at.elapsed() < UNCHANGED).then_some(&self.value)
    }
}

impl Still {
    /// What was read not long ago, where the processor time is that of then.
    pub(super) fn reading(&self, cpu: u64) -> Option<Reading> {
        let reading = *self.reading.as_ref()?.with(cpu)?;
        let waits = [reading.cpu.and_then(|cpu| cpu.pressure), reading.memory.pressure, reading.io];
        waits.into_iter().all(is_free).then_some(reading)
    }

    /// The same where the processor time of the cgroup above is that of then: nobody has run in
    /// any cgroup below it.
    pub(super) fn reading_below(&self, above: u64) -> Option<Reading> {
        let cpu = self.reading.as_ref()?.cpu;
        (self.above == Some(above)).then(|| self.reading(cpu)).flatten()
    }

    pub(super) fn details(&self, cpu: u64) -> Option<Arc<Details>> {
        self.details.as_ref()?.with(cpu).cloned()
    }

    pub(super) fn threads(&self, cpu: u64) -> Option<u64> {
        self.threads.as_ref()?.with(cpu).copied()
    }

    /// The cgroup was looked at, after the one above it.
    pub(super) fn note_above(&mut self, above: Option<u64>) {
        self.above = above;
    }

    pub(super) fn note_reading(&mut self, reading: Reading) {
        self.reading = reading.cpu.map(|cpu| Known::new(cpu.usage, reading));
    }

    pub(super) fn note_details(&mut self, cpu: u64, details: Arc<Details>) {
        self.details = Some(Known::new(cpu, details));
    }

    pub(super) fn note_threads(&mut self, cpu: u64, threads: u64) {
        self.threads = Some(Known::new(cpu, threads));
    }

    /// The limits are others, and with them what is left.
    pub(super) fn forget_reading(&mut self) {
        self.reading = None;
    }
}

/// Whether nobody has waited of late. Who waits for a disk does not run either.
fn is_free(pressure: Option<Pressure>) -> bool {
    pressure.is_none_or(|pressure| pressure.some.avg10 == 0.0 && pressure.full.avg10 == 0.0)
}

#[cfg(test)]
mod tests {
    use super::Still;
    use crate::stats::{Cpu, Pressure, Reading, Waited};

    fn reading(usage: u64, avg10: f64) -> Reading {
        let some = Waited { avg10, ..Waited::default() };
        let pressure = Some(Pressure { some, ..Pressure::default() });
        Reading {
            at: 1,
            cpu: Some(Cpu { usage, pressure, ..Cpu::default() }),
            ..Reading::default()
        }
    }

    #[test]
    fn a_reading_holds_while_nobody_runs_or_waits() {
        let mut still = Still::default();
        assert_eq!(still.reading(0), None);
        still.note_reading(reading(7, 0.0));
        assert_eq!(still.reading(7), Some(reading(7, 0.0)));
        assert_eq!(still.reading(8), None, "it has run");
        still.note_reading(reading(7, 0.5));
        assert_eq!(still.reading(7), None, "somebody waits");
    }

    #[test]
    fn the_cgroup_above_tells_of_those_below_once_it_was_looked_at_first() {
        let mut still = Still::default();
        still.note_reading(reading(7, 0.0));
        assert_eq!(still.reading_below(20), None, "it is not known what it was then");
        still.note_above(Some(20));
        assert_eq!(still.reading_below(20), Some(reading(7, 0.0)));
        assert_eq!(still.reading_below(21), None, "somebody has run");
        still.note_above(None);
        assert_eq!(still.reading_below(20), None);
    }
}
