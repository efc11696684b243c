//! The platform of this machine, in the words that image indexes use.

use serde::{Deserialize, Deserializer, Serialize};

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

    /// How well an image for `offered` runs here: the higher, the better. Machines of 64 bits
    /// run programs of 32 as well.
    pub(super) fn rank(&self, offered: &Platform) -> Option<u8> {
        let offered = offered.normal();
        if offered.os != self.os {
            return None;
        }
        match (self.architecture.as_str(), offered.architecture.as_str()) {
            (here, there) if here == there => self.rank_of_variant(&offered.variant),
            ("amd64", "386") if offered.variant.is_empty() => Some(1),
            ("arm64", "arm") if matches!(offered.variant.as_str(), "" | "v8" | "v7" | "v6") => {
                Some(1)
            }
            _ => None,
        }
    }

    fn rank_of_variant(&self, variant: &str) -> Option<u8> {
        match (self.architecture.as_str(), variant) {
            (_, variant) if variant == self.variant => Some(4),
            (_, "") => Some(3),
            // An older 32-bit ARM runs on a newer one.
            ("arm", older) if older < self.variant.as_str() => Some(2),
            // The machine's exact level is not known here, so the lowest is the safe one.
            ("amd64", "v1") | ("arm64", "8") => Some(3),
            _ => None,
        }
    }

    /// Whether an image for `offered`, which may say only a part of it, seems to run here.
    pub(super) fn runs(&self, offered: &Platform) -> bool {
        let or = |text: &str, here: &str| if text.is_empty() { here } else { text }.to_owned();
        let whole = Platform {
            os: or(&offered.os, &self.os),
            architecture: or(&offered.architecture, &self.architecture),
            variant: String::new(),
        };
        self.rank(&whole).is_some()
    }

    /// Says that an image, which is taken as it is, is made for another machine.
    pub(super) fn warn_if_other(&self, image: &impl ToString) {
        if !Self::here().runs(self) {
            let (image, platform) = (image.to_string(), self.describe());
            tracing::warn!(image, platform, "the image says that it is for another platform");
        }
    }

    /// Whether it says what is needed to tell it from others.
    pub(super) fn is_whole(&self) -> bool {
        !self.os.is_empty() && !self.architecture.is_empty()
    }

    /// In the words of Go, whatever it is written in.
    fn normal(&self) -> Self {
        let architecture = match self.architecture.to_ascii_lowercase().as_str() {
            "x86_64" | "x86-64" => "amd64".to_owned(),
            "i386" | "i486" | "i586" | "i686" => "386".to_owned(),
            "aarch64" => "arm64".to_owned(),
            other => other.to_owned(),
        };
        let [os, variant] = [&self.os, &self.variant].map(|text| text.to_ascii_lowercase());
        Self { os, architecture, variant }
    }

    /// As people write it: `linux/arm64/v8`.
    pub(super) fn describe(&self) -> String {
        let parts = [&self.os, &self.architecture, &self.variant];
        let parts: Vec<&str> =
            parts.into_iter().map(String::as_str).filter(|p| !p.is_empty()).collect();
        if parts.is_empty() { "an unnamed platform".to_owned() } else { parts.join("/") }
    }
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
            ("linux/amd64", "linux/amd64", Some(4)),
            ("linux/amd64", "Linux/x86_64", Some(4)),
            ("linux/amd64", "linux/amd64/v1", Some(3)),
            ("linux/amd64", "linux/386", Some(1)),
            ("linux/386", "linux/amd64", None),
            ("linux/amd64", "linux/amd64/v3", None),
            ("linux/amd64", "linux/arm64", None),
            ("linux/amd64", "windows/amd64", None),
            ("linux/amd64", "unknown/unknown", None),
            ("linux/arm64/v8", "linux/arm64", Some(3)),
            ("linux/arm64/v8", "linux/arm64/v8", Some(4)),
            ("linux/arm64/v8", "linux/arm/v7", Some(1)),
            ("linux/arm/v7", "linux/arm/v6", Some(2)),
            ("linux/arm/v7", "linux/arm/v8", None),
        ] {
            assert_eq!(platform(here).rank(&platform(offered)), rank, "{here} {offered}");
        }
    }
}
