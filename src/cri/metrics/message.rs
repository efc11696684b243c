//! The CRI's messages of metrics, encoded from the beginning.
//!
//! A node with a hundred pods has ten thousand metrics in two megabytes, nearly all of which
//! are names and labels. What is the same for many metrics is encoded once and copied.

use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};

use crate::cri::{
    encoded::{Encoded, put_bytes},
    v1,
};

/// The metrics of a pod as they are on the wire (`PodSandboxMetrics` of the CRI).
pub type PodSandboxMetrics = Encoded<PlainPodSandboxMetrics>;

/// The fields of the metrics of a pod.
#[derive(Clone, PartialEq, Message)]
pub struct PlainPodSandboxMetrics {
    /// The pod.
    #[prost(string, tag = "1")]
    pub pod_sandbox_id: String,
    /// Its own metrics.
    #[prost(message, repeated, tag = "2")]
    pub metrics: Vec<v1::Metric>,
    /// Those of its containers.
    #[prost(message, repeated, tag = "3")]
    pub container_metrics: Vec<v1::ContainerMetrics>,
}

/// Fields of `PodSandboxMetrics` and `ContainerMetrics`, which have the first two in common.
const ID: u32 = 1;
const METRICS: u32 = 2;
const CONTAINERS: u32 = 3;

/// Encodes the metrics of one pod or container.
pub(in crate::cri) struct Encoder(Vec<u8>);

impl Encoder {
    /// Begins with the id of the sandbox or container. `size` is about what it will be, in
    /// bytes.
    pub(in crate::cri) fn new(id: &str, size: usize) -> Self {
        let mut bytes = Vec::with_capacity(size);
        put_bytes(ID, id.as_bytes(), &mut bytes);
        Self(bytes)
    }

    /// Adds a metric. `name` and `labels` were encoded by [`name`] and [`put_label`].
    pub(super) fn add(
        &mut self,
        name: &[u8],
        timestamp: i64,
        kind: v1::MetricType,
        labels: &[u8],
        value: u64,
    ) {
        const TIMESTAMP: u32 = 2;
        const KIND: u32 = 3;
        const VALUE: u32 = 5;
        let value = v1::UInt64Value { value };
        let (timestamp, kind) = (timestamp.cast_unsigned(), i32::from(kind) as u64);
        let length = name.len()
            + number_len(timestamp)
            + number_len(kind)
            + labels.len()
            + prost::encoding::message::encoded_len(VALUE, &value);
        let bytes = &mut self.0;
        encode_key(METRICS, WireType::LengthDelimited, bytes);
        encode_varint(length as u64, bytes);
        bytes.extend_from_slice(name);
        put_number(TIMESTAMP, timestamp, bytes);
        put_number(KIND, kind, bytes);
        bytes.extend_from_slice(labels);
        prost::encoding::message::encode(VALUE, &value, bytes);
    }

    /// Adds a container's to those of its pod.
    pub(in crate::cri) fn add_container(&mut self, container: &Self) {
        put_bytes(CONTAINERS, &container.0, &mut self.0);
    }

    /// All of it.
    pub(in crate::cri) fn finish(self) -> PodSandboxMetrics {
        PodSandboxMetrics::from_bytes(self.0.into())
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The field with the name of a metric.
pub(super) fn name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_bytes(1, name.as_bytes(), &mut bytes);
    bytes
}

/// Adds a field with the value of a label.
pub(super) fn put_label(value: &str, bytes: &mut Vec<u8>) {
    put_bytes(4, value.as_bytes(), bytes);
}

/// A number; zero is what a field is that is absent.
fn put_number(tag: u32, value: u64, bytes: &mut Vec<u8>) {
    if value != 0 {
        encode_key(tag, WireType::Varint, bytes);
        encode_varint(value, bytes);
    }
}

/// The same in bytes, of a tag below 16.
fn number_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + encoded_len_varint(value) }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::{Encoder, PlainPodSandboxMetrics, name, put_label};
    use crate::cri::v1;

    #[test]
    fn metrics_are_encoded_as_the_message_would_be() {
        let gauge = v1::MetricType::Gauge;
        let (mut pod, mut container) = (Encoder::new("p", 0), Encoder::new("c", 0));
        let mut metrics = Vec::new();
        for (value, timestamp, labels) in [(7, -3, ["a", ""]), (0, 0, ["", "ü"])] {
            let mut encoded = Vec::new();
            labels.iter().for_each(|label| put_label(label, &mut encoded));
            for encoder in [&mut pod, &mut container] {
                encoder.add(&name("container_x"), timestamp, gauge, &encoded, value);
            }
            metrics.push(v1::Metric {
                name: "container_x".to_owned(),
                timestamp,
                metric_type: gauge.into(),
                label_values: labels.map(str::to_owned).to_vec(),
                value: Some(v1::UInt64Value { value }),
            });
        }
        pod.add_container(&container);
        let of_container =
            v1::ContainerMetrics { container_id: "c".to_owned(), metrics: metrics.clone() };
        let plain = PlainPodSandboxMetrics {
            pod_sandbox_id: "p".to_owned(),
            metrics,
            container_metrics: vec![of_container],
        };
        let encoded = pod.finish();
        assert_eq!(encoded.plain().unwrap(), plain);
        assert_eq!(encoded.encode_to_vec(), plain.encode_to_vec());
    }
}
