//! The formats of the kernel's files.

use super::{Pressure, Waited};

/// A file with one number; `max` and the number that version 1 has for it are none.
pub(super) fn number(text: &str) -> Option<u64> {
    /// `PAGE_COUNTER_MAX` of version 1, in bytes, and all that is near it.
    const UNLIMITED: u64 = 1 << 60;
    text.trim().parse().ok().filter(|number| *number < UNLIMITED)
}

/// The value of a key in a file of `key value` lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// A file of pressure: `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same with
/// `full`, which the processor of the whole machine does not have.
pub(super) fn pressure(text: &str) -> Option<Pressure> {
    let waited = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let field = |name: &str| {
            line.split_whitespace().find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
        };
        Some(Waited {
            avg10: field("avg10")?.parse().ok()?,
            avg60: field("avg60")?.parse().ok()?,
            avg300: field("avg300")?.parse().ok()?,
            total: field("total")?.parse().ok()?,
        })
    };
    Some(Pressure { some: waited("some")?, full: waited("full").unwrap_or_default() })
}

/// A file with one number, or `max` for any, which is 0 here as it is for others who tell.
pub(super) fn unlimited(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(0),
        limit => limit.parse().ok(),
    }
}
