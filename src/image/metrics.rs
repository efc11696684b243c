//! Figures of the image store since the daemon's start, for Prometheus.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Bounds of pulls, in seconds.
const PULLS: [f64; 10] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OriginLabels {
    origin: &'static str,
}

#[derive(Debug)]
pub(super) struct Metrics {
    pulls: Family<ResultLabels, Counter>,
    pull_seconds: Family<ResultLabels, Histogram, fn() -> Histogram>,
    layers: Family<OriginLabels, Counter>,
    pub(super) bytes_fetched: Counter,
    pub(super) bytes_resumed: Counter,
}

/// What there is at this moment.
pub(super) struct Gauges {
    pub(super) pulls: usize,
    pub(super) images: usize,
    pub(super) bytes: u64,
    pub(super) inodes: u64,
}

const RESULTS: [&str; 2] = ["success", "failure"];
const ORIGINS: [&str; 2] = ["fetched", "reused"];

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            pulls: Family::default(),
            pull_seconds: Family::new_with_constructor(|| Histogram::new(PULLS)),
            layers: Family::default(),
            bytes_fetched: Counter::default(),
            bytes_resumed: Counter::default(),
        };
        // What has not happened yet is zero, and not unknown.
        for result in RESULTS {
            drop(metrics.pulls.get_or_create(&ResultLabels { result }));
            drop(metrics.pull_seconds.get_or_create(&ResultLabels { result }));
        }
        for origin in ORIGINS {
            drop(metrics.layers.get_or_create(&OriginLabels { origin }));
        }
        metrics
    }
}

impl Metrics {
    /// A pull has ended.
    pub(super) fn pulled(&self, is_ok: bool, age: Duration) {
        let labels = ResultLabels { result: RESULTS[usize::from(!is_ok)] };
        self.pulls.get_or_create(&labels).inc();
        self.pull_seconds.get_or_create(&labels).observe(age.as_secs_f64());
    }

    pub(super) fn layer_fetched(&self) {
        self.layers.get_or_create(&OriginLabels { origin: ORIGINS[0] }).inc();
    }

    pub(super) fn layers_reused(&self, count: usize) {
        self.layers.get_or_create(&OriginLabels { origin: ORIGINS[1] }).inc_by(count as u64);
    }

    /// Shows them in a registry, with what there is now.
    pub(super) fn register(&self, registry: &mut Registry, gauges: &Gauges) {
        let registry = registry.sub_registry_with_prefix("criquet_image");
        registry.register("pulls", "Pulls that have ended", self.pulls.clone());
        registry.register(
            "pull_duration_seconds",
            "How long pulls took that were not joined",
            self.pull_seconds.clone(),
        );
        registry.register(
            "layers",
            "Layers of pulled images, by their origin",
            self.layers.clone(),
        );
        registry.register(
            "fetched_bytes",
            "Bytes of layers that registries have sent",
            self.bytes_fetched.clone(),
        );
        registry.register(
            "resumed_bytes",
            "Bytes of layers that broken pulls had left, and that were not fetched again",
            self.bytes_resumed.clone(),
        );
        let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        for (name, help, value) in [
            ("pulls_running", "Pulls that are under way", number(gauges.pulls)),
            ("images", "Images in the store", number(gauges.images)),
            ("store_bytes", "Bytes that the store takes on its disk", gauges.bytes.cast_signed()),
            ("store_inodes", "Files and directories of all layers", gauges.inodes.cast_signed()),
        ] {
            let gauge: Gauge = Gauge::default();
            gauge.set(value);
            registry.register(name, help, gauge);
        }
    }
}
