//! Content digests: SHA-256 and SHA-512, parsed strictly.

use std::{
    fmt,
    io::{self, Read},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

/// The digest of some content, written as its algorithm (`sha256` or `sha512`), a colon and
/// lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(Sum);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Sum {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

/// Why a text is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest is written sha256: and 64, or sha512: and 128, lower-case hex digits")]
pub struct DigestError;

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sum::Sha256(Sha256::digest(bytes).into()))
    }

    /// The digest of `bytes` by the algorithm of this one.
    pub(super) fn same_of(&self, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::like(self);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The name of its algorithm.
    pub fn algorithm(&self) -> &'static str {
        match self.0 {
            Sum::Sha256(_) => "sha256",
            Sum::Sha512(_) => "sha512",
        }
    }

    /// The hex digits alone.
    pub fn hex(&self) -> String {
        let bytes: &[u8] = match &self.0 {
            Sum::Sha256(bytes) => bytes,
            Sum::Sha512(bytes) => bytes,
        };
        bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
            }
            text
        })
    }

    /// The SHA-256 digest of the given 64 hex digits.
    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        bytes(hex).map(|bytes| Self(Sum::Sha256(bytes)))
    }
}

/// Exactly as many bytes as the hex digits are to give.
fn bytes<const LENGTH: usize>(hex: &str) -> Result<[u8; LENGTH], DigestError> {
    let mut bytes = [0; LENGTH];
    let digits = hex.as_bytes();
    if digits.len() != 2 * LENGTH {
        return Err(DigestError);
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Ok(bytes)
}

fn nibble(digit: u8) -> Result<u8, DigestError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(DigestError),
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text.split_once(':').ok_or(DigestError)? {
            ("sha256", hex) => Self::from_hex(hex),
            ("sha512", hex) => bytes(hex).map(|bytes| Self(Sum::Sha512(bytes))),
            _ => Err(DigestError),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Computes the digest of content that streams by.
pub(super) enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Default for Hasher {
    fn default() -> Self {
        Self::Sha256(Sha256::default())
    }
}

impl Hasher {
    /// By the algorithm of that digest.
    pub(super) fn like(digest: &Digest) -> Self {
        match digest.0 {
            Sum::Sha256(_) => Self::default(),
            Sum::Sha512(_) => Self::Sha512(Sha512::default()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Digest {
        Digest(match self {
            Self::Sha256(hasher) => Sum::Sha256(hasher.finalize().into()),
            Self::Sha512(hasher) => Sum::Sha512(hasher.finalize().into()),
        })
    }
}

/// Hashes what is read from a source.
pub(super) struct Hashing<R> {
    source: R,
    hasher: Hasher,
}

impl<R> Hashing<R> {
    pub(super) fn new(source: R, hasher: Hasher) -> Self {
        Self { source, hasher }
    }

    /// The digest of what was read.
    pub(super) fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}

/// The one id of an image: the digest of its configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(pub Digest);

impl FromStr for ImageId {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strict_digests_parse() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(empty.parse::<Digest>().unwrap(), Digest::of(b""));
        for wrong in ["", "sha256:", &empty[..70], &empty.to_uppercase(), &format!("{empty}0")] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
        assert!(empty.replace("sha256", "sha512").parse::<Digest>().is_err());
        assert!(empty.replace("sha256", "md5").parse::<Digest>().is_err());
        let long: Digest = format!("sha512:{}", "cf".repeat(64)).parse().unwrap();
        assert_eq!(long.to_string(), format!("sha512:{}", "cf".repeat(64)));
        // The example of FIPS 180.
        assert!(long.same_of(b"abc").to_string().starts_with("sha512:ddaf35a193617aba"));
        assert!(
            "sha256:../../../../../../../../../../../../../../../../../../etc/passwd"
                .parse::<Digest>()
                .is_err()
        );
    }
}
