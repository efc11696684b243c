//! All figures of the daemon: what it has done, which others count, and what there is, which is
//! looked at here when somebody asks.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, prometheus_text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};

use crate::{
    pod::{Counts, OPERATIONS, Pods, Readers},
    telemetry::{
        UnderWay,
        process::{self, Memory},
    },
};

/// How old the figure of the monitors' memory may be: their number may be large.
const FRESH: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MemoryLabels {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    cri: &'static str,
}

/// What the monitors take together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Monitors {
    pub(super) count: usize,
    pub(super) memory: Memory,
}

/// The figures of a daemon.
pub struct Metrics {
    pods: Arc<Pods>,
    started: SystemTime,
    // Held while they are counted, so that those who ask at the same time count once.
    monitors: Mutex<Option<(Instant, Monitors)>>,
}

impl Metrics {
    /// Those of the daemon of these pods, which starts now.
    pub fn new(pods: Arc<Pods>) -> Arc<Self> {
        Arc::new(Self { pods, started: SystemTime::now(), monitors: Mutex::default() })
    }

    /// All of them in the text format of Prometheus.
    ///
    /// # Errors
    /// When the work was ended by a panic.
    pub async fn text(self: Arc<Self>) -> Result<String, String> {
        // `/proc` is files.
        let work = tokio::task::spawn_blocking(move || self.render());
        work.await.map_err(|_| "the figures cannot be gathered".to_owned())
    }

    fn render(&self) -> String {
        let mut registry = Registry::default();
        self.build_info(&mut registry);
        self.process(&mut registry);
        self.pods.operations().figures().register(&mut registry);
        self.pods.images().register(&mut registry);
        let report = self.pods.report();
        states(&mut registry, "sandboxes", "Sandboxes by state", &report.sandboxes);
        states(&mut registry, "containers", "Containers by state", &report.containers);
        operations(&mut registry, &report.operations);
        readers(&mut registry, &report.readers);
        let waiting = number(report.user_paths);
        gauge(
            &mut registry,
            "criquet_user_path_waits",
            "Calls that wait for paths that users name",
            waiting,
        );
        self.monitors_in(&mut registry);
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }

    fn build_info(&self, registry: &mut Registry) {
        let labels = BuildLabels { version: env!("CARGO_PKG_VERSION"), cri: "v1" };
        registry.register("criquet_build", "The daemon's version", Info::new(labels));
    }

    /// Under the names that every process has (`process_*`).
    fn process(&self, registry: &mut Registry) {
        let memory = Memory::of(std::process::id()).unwrap_or_default();
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = Counter::<f64, std::sync::atomic::AtomicU64>::default();
        seconds.inc_by(process::processor_time().as_secs_f64());
        registry.register("process_cpu_seconds", "Processor time of the daemon", seconds);
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory of the daemon", memory.resident),
            ("process_virtual_memory_bytes", "Address space of the daemon", memory.size),
            ("process_threads", "Threads of the daemon", memory.threads),
            ("process_start_time_seconds", "When the daemon started", started.as_secs()),
        ] {
            gauge(registry, name, help, value.cast_signed());
        }
        if let Ok((open, most)) = process::descriptors() {
            gauge(registry, "process_open_fds", "Descriptors of the daemon", number(open));
            gauge(
                registry,
                "process_max_fds",
                "Descriptors that it may have",
                i64::try_from(most).unwrap_or(i64::MAX),
            );
        }
    }

    fn monitors_in(&self, registry: &mut Registry) {
        let Monitors { count, memory } = self.monitors();
        gauge(registry, "criquet_monitors", "Monitors of pods", number(count));
        let family = Family::<MemoryLabels, Gauge>::default();
        for (kind, bytes) in [("resident", memory.resident), ("private", memory.private)] {
            family.get_or_create(&MemoryLabels { kind }).set(bytes.cast_signed());
        }
        let help = "Memory of all monitors: what of them is in memory, with pages that they \
                    share counted for each, and what nobody shares";
        registry.register("criquet_monitors_memory_bytes", help, family);
    }

    /// What the monitors take now, or did seconds ago. Reads files.
    pub(super) fn monitors(&self) -> Monitors {
        let mut last = self.monitors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, monitors)) = *last
            && at.elapsed() < FRESH
        {
            return monitors;
        }
        let mut sum = Monitors::default();
        for pid in self.pods.monitor_pids() {
            // One that has just ended takes nothing.
            let Ok(memory) = Memory::of(pid) else { continue };
            sum.count += 1;
            sum.memory.resident += memory.resident;
            sum.memory.private += memory.private;
        }
        *last = Some((Instant::now(), sum));
        sum
    }
}

fn number(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter: Counter = Counter::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

fn states(registry: &mut Registry, name: &str, help: &str, counts: &Counts) {
    let family = Family::<StateLabels, Gauge>::default();
    for (state, count) in counts {
        family.get_or_create(&StateLabels { state: state.replace(' ', "_") }).set(number(*count));
    }
    registry.register(format!("criquet_{name}"), help, family);
}

fn operations(registry: &mut Registry, operations: &[UnderWay]) {
    let running = Family::<OperationLabels, Gauge>::default();
    let stuck = Family::<OperationLabels, Gauge>::default();
    // Those that are not under way are zero, so that nothing waits for a first time.
    for operation in OPERATIONS {
        drop(running.get_or_create(&OperationLabels { operation }));
        drop(stuck.get_or_create(&OperationLabels { operation }));
    }
    let oldest = operations.iter().map(|one| one.stage_age.as_secs()).max().unwrap_or(0);
    for one in operations {
        let labels = OperationLabels { operation: one.name };
        running.get_or_create(&labels).inc();
        stuck.get_or_create(&labels).inc_by(i64::from(one.is_stuck));
    }
    registry.register("criquet_operations", "Operations that are under way", running);
    registry.register(
        "criquet_operations_stuck",
        "Operations that are in a stage for ten seconds longer than it should take",
        stuck,
    );
    gauge(
        registry,
        "criquet_operation_oldest_stage_seconds",
        "How long the operation that moves least has been in its stage",
        oldest.cast_signed(),
    );
}

fn readers(registry: &mut Registry, readers: &Readers) {
    let Readers { count, behind, left_behind, events } = *readers;
    gauge(registry, "criquet_event_subscribers", "Subscribers of events", number(count));
    gauge(
        registry,
        "criquet_event_lag",
        "Events that the slowest subscriber has not read",
        behind.cast_signed(),
    );
    counter(registry, "criquet_events", "What has happened to pods and containers", events);
    counter(
        registry,
        "criquet_event_subscribers_behind",
        "Subscribers that were ended, since they were too far behind",
        left_behind,
    );
}
