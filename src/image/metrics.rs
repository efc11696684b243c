//! Figures of the image store since the daemon's start, as Prometheus reads them.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// A figure that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) pulls_succeeded: Counter,
    pub(super) pulls_failed: Counter,
    pub(super) bytes_fetched: Counter,
    pub(super) bytes_resumed: Counter,
    pub(super) layers_fetched: Counter,
    pub(super) layers_reused: Counter,
}

/// What there is at this moment.
pub(super) struct Gauges {
    pub(super) pulls: u64,
    pub(super) images: u64,
    pub(super) bytes: u64,
    pub(super) inodes: u64,
}

impl Metrics {
    /// The figures in the text format of Prometheus.
    pub(super) fn text(&self, gauges: &Gauges) -> String {
        let mut text = String::new();
        let pulls = [("success", &self.pulls_succeeded), ("failure", &self.pulls_failed)];
        family(&mut text, "pulls_total", "counter", "Pulls that have ended.");
        for (result, counter) in pulls {
            sample(&mut text, &format!("pulls_total{{result=\"{result}\"}}"), counter.get());
        }
        let layers = [("fetched", &self.layers_fetched), ("reused", &self.layers_reused)];
        family(&mut text, "layers_total", "counter", "Layers of pulled images, by their origin.");
        for (origin, counter) in layers {
            sample(&mut text, &format!("layers_total{{origin=\"{origin}\"}}"), counter.get());
        }
        for (name, kind, help, value) in [
            (
                "fetched_bytes_total",
                "counter",
                "Bytes of layers that registries have sent.",
                self.bytes_fetched.get(),
            ),
            (
                "resumed_bytes_total",
                "counter",
                "Bytes of layers that broken pulls had left, and that were not fetched again.",
                self.bytes_resumed.get(),
            ),
            ("pulls_running", "gauge", "Pulls that are under way.", gauges.pulls),
            ("images", "gauge", "Images in the store.", gauges.images),
            ("store_bytes", "gauge", "Bytes that the store takes on its disk.", gauges.bytes),
            ("store_inodes", "gauge", "Files and directories of all layers.", gauges.inodes),
        ] {
            family(&mut text, name, kind, help);
            sample(&mut text, name, value);
        }
        text
    }
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP criquet_image_{name} {help}");
    let _ = writeln!(text, "# TYPE criquet_image_{name} {kind}");
}

fn sample(text: &mut String, name: &str, value: u64) {
    let _ = writeln!(text, "criquet_image_{name} {value}");
}
