//! The records of PAX extended headers.

use super::Error;

const ATTRIBUTE: &str = "SCHILY.xattr.";
/// More records than this in one header help nobody.
const RECORDS: usize = 200_000;
const MALFORMED: Error = Error::Malformed("an extended header does not parse");

/// `keyword=value` records in their order.
#[derive(Debug, Default, Clone)]
pub(super) struct Records(Vec<(String, Vec<u8>)>);

/// An entry's own records before those for the whole archive.
pub(super) struct View<'a> {
    local: &'a Records,
    global: &'a Records,
}

impl Records {
    /// Parses `LENGTH KEYWORD=VALUE\n` records.
    pub(super) fn parse(mut data: &[u8]) -> Result<Self, Error> {
        let mut records = Vec::new();
        while !data.is_empty() && data[0] != 0 {
            let space = data.iter().take(20).position(|b| *b == b' ').ok_or(MALFORMED)?;
            let length =
                decimal(&data[..space]).and_then(|l| usize::try_from(l).ok()).ok_or(MALFORMED)?;
            if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
                return Err(MALFORMED);
            }
            let record = &data[space + 1..length - 1];
            let equals = record.iter().position(|b| *b == b'=').ok_or(MALFORMED)?;
            let keyword = std::str::from_utf8(&record[..equals]).map_err(|_| MALFORMED)?;
            records.push((keyword.to_owned(), record[equals + 1..].to_vec()));
            if records.len() > RECORDS {
                return Err(Error::TooLarge("an extended header of more than 200000 records"));
            }
            data = &data[length..];
        }
        Ok(Self(records))
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn has_path(&self) -> bool {
        self.get("path").is_some() || self.get("GNU.sparse.name").is_some()
    }

    pub(super) fn has_link(&self) -> bool {
        self.get("linkpath").is_some()
    }

    pub(super) fn over<'a>(&'a self, global: &'a Records) -> View<'a> {
        View { local: self, global }
    }

    fn get(&self, keyword: &str) -> Option<&[u8]> {
        self.0.iter().rev().find(|(key, _)| key == keyword).map(|(_, value)| value.as_slice())
    }
}

impl View<'_> {
    /// A value; one that is empty takes back what was said before.
    pub(super) fn bytes(&self, keyword: &str) -> Option<&[u8]> {
        self.local
            .get(keyword)
            .or_else(|| self.global.get(keyword))
            .filter(|value| !value.is_empty())
    }

    pub(super) fn number(&self, keyword: &str) -> Result<Option<u64>, Error> {
        self.bytes(keyword).map(|value| decimal(value).ok_or(MALFORMED)).transpose()
    }

    /// The same for a number that may be less than nothing.
    pub(super) fn signed(&self, keyword: &str) -> Result<Option<i128>, Error> {
        let Some(value) = self.bytes(keyword) else { return Ok(None) };
        let (sign, digits) = match value {
            [b'-', digits @ ..] => (-1, digits),
            digits => (1, digits),
        };
        decimal(digits).map(|number| Some(sign * i128::from(number))).ok_or(MALFORMED)
    }

    /// Decimal seconds with a fraction; what does not parse counts as absent.
    pub(super) fn time(&self, keyword: &str) -> Option<(i64, u32)> {
        let text = std::str::from_utf8(self.bytes(keyword)?).ok()?;
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let seconds: i64 = whole.parse().ok()?;
        if !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
        let nanoseconds: u32 = digits.parse().ok()?;
        if whole.starts_with('-') && nanoseconds > 0 {
            return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
        }
        Some((seconds, nanoseconds))
    }

    /// Extended attributes of the file, which only its own header may give.
    pub(super) fn attributes(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let named = |(key, value): &(String, Vec<u8>)| {
            Some((key.strip_prefix(ATTRIBUTE)?.as_bytes().to_vec(), value.clone()))
        };
        self.local.0.iter().filter_map(named).collect()
    }

    /// All values of two keywords in their order, for sparse maps of the oldest form.
    pub(super) fn sequence(&self, first: &str, second: &str) -> Result<Vec<u64>, Error> {
        let wanted = self.local.0.iter().filter(|(key, _)| key == first || key == second);
        wanted.map(|(_, value)| decimal(value).ok_or(MALFORMED)).collect()
    }
}

/// Digits and nothing else.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
