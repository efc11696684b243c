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
pub(super) use message::Encoder;
pub use message::{PlainPodSandboxMetrics, PodSandboxMetrics};
use message::{name, put_label};

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
pub(super) struct Table {
    families: Vec<Encodable>,
    /// How many different lists of labels there are.
    lists: usize,
}

/// A family and what of it is encoded beforehand.
#[derive(Debug)]
struct Encodable {
    family: Family,
    name: Vec<u8>,
    kind: v1::MetricType,
    /// The number of its list of labels.
    labels: usize,
}

impl Table {
    /// The one that is built in.
    ///
    /// # Panics
    /// Where it is not what it should be, which a test would find.
    pub(super) fn built_in() -> Self {
        let table: Vec<Family> =
            serde_json::from_str(include_str!("table.json")).expect("the table that is built in");
        let mut lists: Vec<Vec<String>> = Vec::new();
        let mut encodable = |family: Family| {
            let known = lists.iter().position(|labels| *labels == family.labels);
            let labels = known.unwrap_or_else(|| {
                lists.push(family.labels.clone());
                lists.len() - 1
            });
            let kind = match family.kind {
                Type::Counter => v1::MetricType::Counter,
                Type::Gauge => v1::MetricType::Gauge,
            };
            Encodable { name: name(&family.name), kind, labels, family }
        };
        let families = table.into_iter().map(&mut encodable).collect();
        Self { families, lists: lists.len() }
    }

    pub(super) fn descriptors(&self) -> Vec<v1::MetricDescriptor> {
        let descriptor = |family: &Family| v1::MetricDescriptor {
            name: family.name.clone(),
            help: family.help.clone(),
            label_keys: family.labels.clone(),
        };
        self.families.iter().map(|encodable| descriptor(&encodable.family)).collect()
    }

    /// Adds the metrics of one pod or container.
    pub(super) fn add(
        &self,
        subject: Subject,
        labels: &Labels<'_>,
        facts: &Facts<'_>,
        encoder: &mut Encoder,
    ) {
        // Of those lists that hold nothing but what all metrics of the subject have.
        let mut known: Vec<Vec<u8>> = vec![Vec::new(); self.lists];
        let mut own = Vec::new();
        for Encodable { family, name, kind, labels: list } in &self.families {
            if !family.of.contains(&subject) {
                continue;
            }
            each(family.source, facts, &mut |more, value, timestamp| {
                let bytes = if more.is_empty() { &mut known[*list] } else { &mut own };
                if !more.is_empty() {
                    bytes.clear();
                }
                if bytes.is_empty() {
                    family.labels.iter().for_each(|key| put_label(labels.value(key, more), bytes));
                }
                encoder.add(name, timestamp, *kind, bytes, value);
            });
        }
    }
}
