//! Metrics of pods and containers, by the names, types and labels that dashboards know from
//! cAdvisor, so that a kubelet that asks the runtime for them needs no cAdvisor.
//!
//! `table.json` says what there is. Labels are in the order in which a kubelet's
//! `/metrics/cadvisor` shows them, which is that of their names; values of labels come in the
//! same order. What is not known has no metric, rather than a zero.

mod figures;
mod labels;
mod message;
#[cfg(test)]
mod tests;

use serde::Deserialize;

pub(super) use figures::{Facts, OfContainer};
use figures::{Source, each};
pub(super) use labels::Labels;
use message::Encoder;
pub use message::{Metric, PlainMetric};

use super::v1;

/// What has a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Subject {
    /// The cgroup of a pod.
    Pod,
    /// The network of a pod.
    Network,
    /// A container.
    Container,
}

/// Whether a metric only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Type {
    Counter,
    Gauge,
}

/// One family of metrics.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Family {
    name: String,
    #[serde(rename = "type")]
    kind: Type,
    of: Vec<Subject>,
    source: Source,
    labels: Vec<String>,
    help: String,
}

/// All families.
#[derive(Debug)]
pub(super) struct Table(Vec<Family>);

impl Table {
    /// The one that is built in.
    ///
    /// # Panics
    /// Where it is not what it should be, which a test would find.
    pub(super) fn built_in() -> Self {
        let table = serde_json::from_str(include_str!("table.json"));
        Self(table.expect("the table that is built in"))
    }

    pub(super) fn descriptors(&self) -> Vec<v1::MetricDescriptor> {
        let descriptor = |family: &Family| v1::MetricDescriptor {
            name: family.name.clone(),
            help: family.help.clone(),
            label_keys: family.labels.clone(),
        };
        self.0.iter().map(descriptor).collect()
    }

    /// The metrics of one pod or container.
    pub(super) fn metrics(
        &self,
        subject: Subject,
        labels: &Labels<'_>,
        facts: &Facts<'_>,
    ) -> Vec<Metric> {
        let mut encoder = Encoder::default();
        for family in self.0.iter().filter(|family| family.of.contains(&subject)) {
            let kind = match family.kind {
                Type::Counter => v1::MetricType::Counter,
                Type::Gauge => v1::MetricType::Gauge,
            };
            each(family.source, facts, &mut |more, value, timestamp| {
                let labels = family.labels.iter().map(|key| labels.value(key, more));
                encoder.add(&family.name, timestamp, kind, labels, value);
            });
        }
        encoder.metrics()
    }
}
