//! Ids of sandboxes and containers: 64 hexadecimal digits, as users know them.

use std::{fmt, io, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// 32 random bytes as text.
fn random() -> io::Result<String> {
    let mut bytes = [0_u8; 32];
    io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

macro_rules! id {
    ($name:ident, $of:literal) => {
        #[doc = concat!("The id of a ", $of, ".")]
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// A new one.
            pub(super) fn random() -> io::Result<Self> {
                random().map(Self::from)
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer).map(Self::from)
            }
        }
    };
}

id!(SandboxId, "sandbox");
id!(ContainerId, "container");

#[cfg(test)]
mod tests {
    use super::SandboxId;

    #[test]
    fn ids_differ_and_look_like_ids() {
        let (one, other) = (SandboxId::random().unwrap(), SandboxId::random().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.as_str().len(), 64);
        assert!(one.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
