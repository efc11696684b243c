//! The platform of this machine, in the words that image indexes use.

use serde::{Deserialize, Deserializer, Serialize};

use super::Error;

/// The platform of an index entry or a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Platform {
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) os: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) architecture: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) variant: String,
}

/// Reads `null` as the default value.
pub(super) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

impl Platform {
    /// What this program was built for, which is what the machine runs.
    pub(super) fn here() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", "v8"),
            "x86" => ("386", ""),
            "arm" => ("arm", "v7"),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", ""),
            other => (other, ""),
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: variant.into() }
    }

    /// How well an image for `offered` runs here: the higher, the better.
    pub(super) fn rank(&self, offered: &Platform) -> Option<u8> {
        let os = offered.os.to_ascii_lowercase();
        let architecture = match offered.architecture.to_ascii_lowercase().as_str() {
            "x86_64" | "x86-64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            other => other.to_owned(),
        };
        if os != self.os || architecture != self.architecture {
            return None;
        }
        let variant = offered.variant.to_ascii_lowercase();
        match (self.architecture.as_str(), variant.as_str()) {
            (_, variant) if variant == self.variant => Some(3),
            (_, "") => Some(2),
            // An older 32-bit ARM runs on a newer one.
            ("arm", older) if older < self.variant.as_str() => Some(1),
            // The machine's exact level is not known here, so the lowest is the safe one.
            ("amd64", "v1") | ("arm64", "8") => Some(2),
            _ => None,
        }
    }

    /// As people write it: `linux/arm64/v8`.
    pub(super) fn describe(&self) -> String {
        let parts = [&self.os, &self.architecture, &self.variant];
        let parts: Vec<&str> =
            parts.into_iter().map(String::as_str).filter(|p| !p.is_empty()).collect();
        if parts.is_empty() { "an unnamed platform".to_owned() } else { parts.join("/") }
    }
}

/// A configuration that says nothing of its platform is taken as it is.
pub(super) fn check_platform(reference: &impl ToString, offered: &Platform) -> Result<(), Error> {
    let here = Platform::here();
    let relaxed = Platform { variant: String::new(), ..offered.clone() };
    if offered.architecture.is_empty() || here.rank(&relaxed).is_some() {
        return Ok(());
    }
    Err(Error::Platform {
        reference: reference.to_string(),
        wanted: here.describe(),
        offered: offered.describe(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks() {
        let platform = |text: &str| {
            let mut parts = text.split('/').map(str::to_owned);
            let mut next = || parts.next().unwrap_or_default();
            Platform { os: next(), architecture: next(), variant: next() }
        };
        for (here, offered, rank) in [
            ("linux/amd64", "linux/amd64", Some(3)),
            ("linux/amd64", "linux/amd64/v1", Some(2)),
            ("linux/amd64", "linux/amd64/v3", None),
            ("linux/amd64", "linux/arm64", None),
            ("linux/amd64", "windows/amd64", None),
            ("linux/amd64", "unknown/unknown", None),
            ("linux/arm64/v8", "linux/arm64", Some(2)),
            ("linux/arm64/v8", "linux/arm64/v8", Some(3)),
            ("linux/arm/v7", "linux/arm/v6", Some(1)),
            ("linux/arm/v7", "linux/arm/v8", None),
        ] {
            assert_eq!(platform(here).rank(&platform(offered)), rank, "{here} {offered}");
        }
    }
}
