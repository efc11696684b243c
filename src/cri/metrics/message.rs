//! The CRI's message of a metric, encoded from the beginning.

use bytes::Bytes;
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};

use crate::cri::{
    encoded::{Encoded, put_bytes},
    v1,
};

/// A metric as it is on the wire (`Metric` of the CRI).
pub type Metric = Encoded<PlainMetric>;

/// The fields of a metric.
#[derive(Clone, PartialEq, Message)]
pub struct PlainMetric {
    /// Its family.
    #[prost(string, tag = "1")]
    pub name: String,
    /// When it was read, in nanoseconds since the epoch.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
    /// Counter or gauge.
    #[prost(enumeration = "v1::MetricType", tag = "3")]
    pub metric_type: i32,
    /// The values of its labels, in the order of the descriptor's keys.
    #[prost(string, repeated, tag = "4")]
    pub label_values: Vec<String>,
    /// Its value.
    #[prost(message, optional, tag = "5")]
    pub value: Option<v1::UInt64Value>,
}

/// Encodes the metrics of one pod or container, one after the other, into one piece of memory.
#[derive(Default)]
pub(super) struct Encoder {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Encoder {
    /// Adds one.
    pub(super) fn add<'a>(
        &mut self,
        name: &str,
        timestamp: i64,
        kind: v1::MetricType,
        labels: impl Iterator<Item = &'a str>,
        value: u64,
    ) {
        let bytes = &mut self.bytes;
        put_bytes(1, name.as_bytes(), bytes);
        put_number(2, timestamp.cast_unsigned(), bytes);
        put_number(3, i32::from(kind) as u64, bytes);
        labels.for_each(|label| put_bytes(4, label.as_bytes(), bytes));
        let value = v1::UInt64Value { value };
        encode_key(5, WireType::LengthDelimited, bytes);
        encode_varint(value.encoded_len() as u64, bytes);
        value.encode_raw(bytes);
        self.ends.push(bytes.len());
    }

    /// All of them.
    pub(super) fn metrics(self) -> Vec<Metric> {
        let bytes = Bytes::from(self.bytes);
        let mut start = 0;
        let metric = |end| Metric::from_bytes(bytes.slice(std::mem::replace(&mut start, end)..end));
        self.ends.into_iter().map(metric).collect()
    }
}

/// A number; zero is what a field is that is absent.
fn put_number(tag: u32, value: u64, bytes: &mut Vec<u8>) {
    if value != 0 {
        encode_key(tag, WireType::Varint, bytes);
        encode_varint(value, bytes);
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::{Encoder, Metric, PlainMetric};
    use crate::cri::v1;

    #[test]
    fn a_metric_is_encoded_as_the_message_would_be() {
        let mut encoder = Encoder::default();
        let gauge = v1::MetricType::Gauge;
        for (value, labels) in [(7, ["a", ""]), (u64::MAX, ["", "ü"])] {
            encoder.add("container_x", -3, gauge, labels.into_iter(), value);
        }
        let metrics = encoder.metrics();
        for (metric, (value, labels)) in metrics.iter().zip([(7, ["a", ""]), (u64::MAX, ["", "ü"])])
        {
            let plain = PlainMetric {
                name: "container_x".to_owned(),
                timestamp: -3,
                metric_type: gauge.into(),
                label_values: labels.map(str::to_owned).to_vec(),
                value: Some(v1::UInt64Value { value }),
            };
            assert_eq!(metric.plain().unwrap(), plain);
            assert_eq!(metric.encode_to_vec(), plain.encode_to_vec());
            assert_eq!(&Metric::decode(plain.encode_to_vec().as_slice()).unwrap(), metric);
        }
    }
}
