//! Words and columns for a terminal of 80 columns.

use std::fmt::Write;

/// The width of lines, but for messages that are one word.
pub(super) const WIDTH: usize = 80;

/// Hex digits of an id.
const SHORT_ID: usize = 12;

/// Words behind a beginning, the further lines below the first.
pub(super) fn wrapped(text: &mut String, beginning: &str, indent: usize, words: &str) {
    let (mut line, mut is_empty) = (beginning.to_owned(), true);
    for word in words.split_whitespace() {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            (line, is_empty) = (" ".repeat(indent), true);
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

/// Ids are known by their beginnings; names are not.
pub(super) fn short(id: &str) -> &str {
    let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { &id[..SHORT_ID] } else { id }
}

/// At most so many characters; the end of a name tells more than its beginning.
pub(super) fn cut(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return text.to_owned();
    }
    let end: String = text.chars().skip(count - width + 1).collect();
    format!("…{end}")
}

/// The two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let units = [("d", 86400), ("h", 3600), ("m", 60), ("s", 1)];
    let first = units.iter().position(|(_, unit)| seconds >= *unit).unwrap_or(3);
    let mut rest = seconds;
    let mut words = String::new();
    for (name, unit) in units.iter().skip(first).take(2) {
        let count = rest / unit;
        rest %= unit;
        if count > 0 || words.is_empty() {
            let _ = write!(words, "{count}{name}");
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (3_661, "1h1m"), (86_400, "1d"), (90_000, "1d1h")]
        {
            assert_eq!(duration(seconds), text);
        }
    }
}
