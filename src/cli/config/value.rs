//! Values that are written otherwise than they are kept.

use std::fmt;

use serde::{
    Deserializer,
    de::{Error, Visitor},
};

/// A number of bytes, also as text with a unit.
pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(SizeVisitor)
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = u64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number of bytes, or text such as \"64MiB\"")
    }

    fn visit_i64<E: Error>(self, bytes: i64) -> Result<u64, E> {
        u64::try_from(bytes).map_err(|_| E::custom(format!("{bytes} bytes are less than none")))
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<u64, E> {
        Ok(bytes)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        parse_size(text).ok_or_else(|| {
            E::custom(format!(
                "{text:?} is no size; write a whole number and B, KiB, MiB, GiB or TiB"
            ))
        })
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text.get(digits.len()..)?.trim_start();
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A path, or empty text for none.
pub(super) mod optional_path {
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        path.as_deref().unwrap_or(Path::new("")).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let path = PathBuf::deserialize(deserializer)?;
        Ok((!path.as_os_str().is_empty()).then_some(path))
    }
}

/// An IPv4 subnet, or empty text for none.
pub(super) mod subnet_v4 {
    use ipnet::Ipv4Net;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in super::super) fn serialize<S: Serializer>(
        subnet: &Option<Ipv4Net>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match subnet {
            Some(subnet) => serializer.collect_str(subnet),
            None => serializer.serialize_str(""),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Ipv4Net>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| {
            let example = "such as \"10.88.0.0/16\", and not empty for none";
            D::Error::custom(format!("{text:?} is no IPv4 subnet, {example}"))
        })
    }
}

/// An IPv6 subnet, or empty text for none.
pub(super) mod subnet_v6 {
    use ipnet::Ipv6Net;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in super::super) fn serialize<S: Serializer>(
        subnet: &Option<Ipv6Net>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match subnet {
            Some(subnet) => serializer.collect_str(subnet),
            None => serializer.serialize_str(""),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Ipv6Net>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| {
            let example = "such as \"fd4a:6b1d:88::/64\", and not empty for none";
            D::Error::custom(format!("{text:?} is no IPv6 subnet, {example}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("64MiB", Some(64 << 20)),
            ("1 GiB", Some(1 << 30)),
            ("512", Some(512)),
            ("7B", Some(7)),
            ("64MB", None),
            ("MiB", None),
            ("-1KiB", None),
            ("1.5GiB", None),
            ("99999999999TiB", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }
}
