//! Moments, as people and logs write them (RFC 3339).

use std::time::{SystemTime, UNIX_EPOCH};

const NANOS: i128 = 1_000_000_000;

/// Nanoseconds since the epoch.
pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos() as i64)
}

/// Whole seconds since a moment in nanoseconds since the epoch; none in the future.
pub(super) fn age(at: i64, now: i64) -> u64 {
    u64::try_from(now.saturating_sub(at)).unwrap_or(0) / 1_000_000_000
}

/// A moment in UTC, to the second; none for none.
pub(super) fn text(at: i64) -> Option<String> {
    let seconds = u64::try_from(at).ok().filter(|at| *at > 0)? / 1_000_000_000;
    let (year, month, day) = date_of(i64::try_from(seconds / 86_400).ok()?);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

/// The moment that a text in RFC 3339 names, in nanoseconds since the epoch.
pub(super) fn parse(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let date: Vec<i64> = date.splitn(3, '-').map(number).collect::<Option<_>>()?;
    let at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let clock: Vec<i64> = clock.splitn(3, ':').map(number).collect::<Option<_>>()?;
    let ([year, month, day], [hour, minute, second]) = (date.as_slice(), clock.as_slice()) else {
        return None;
    };
    let is_sound = (1..=12).contains(month)
        && (1..=31).contains(day)
        && *hour < 24
        && *minute < 60
        && *second <= 60;
    if !is_sound || fraction.len() > 9 {
        return None;
    }
    let nanos = match fraction {
        "" => 0,
        digits => number(digits)? * 10i64.pow(9 - u32::try_from(digits.len()).ok()?),
    };
    let days = i128::from(days_of(*year, *month, *day));
    let seconds = days * 86_400 + i128::from(hour * 3600 + minute * 60 + second - offset(zone)?);
    i64::try_from(seconds * NANOS + i128::from(nanos)).ok()
}

/// How many seconds a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    Some(sign * (number(hours)? * 3600 + number(minutes)? * 60))
}

fn number(digits: &str) -> Option<i64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

/// Days since 1970-01-01. Years begin in March, so that the day which comes every four years is
/// the last of one.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// The date of a number of days since 1970-01-01.
fn date_of(days: i64) -> (i64, i64, i64) {
    // A year is a guess that is never too late; there are few days to go from it.
    let mut year = 1970 + days.div_euclid(366);
    while days_of(year + 1, 1, 1) <= days {
        year += 1;
    }
    let month = (1..=12).rev().find(|&month| days_of(year, month, 1) <= days).unwrap_or(1);
    (year, month, days - days_of(year, month, 1) + 1)
}

/// A length of time: `90s`, `1h30m`, `2d`, `1.5h`, or seconds without a unit. In nanoseconds.
pub(super) fn duration(text: &str) -> Option<i64> {
    if let Some(seconds) = number(text) {
        return seconds.checked_mul(1_000_000_000);
    }
    let (mut rest, mut total) = (text, 0f64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];
        let (unit, seconds) = units.iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        total += amount * seconds;
    }
    (!text.is_empty() && total < 9e9).then_some((total * 1e9) as i64)
}

#[cfg(test)]
mod tests {
    use super::{duration, parse, text};

    #[test]
    fn moments_are_read_and_written() {
        for (words, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:34:56Z", 951_827_696),
            ("2026-12-01T09:30:00Z", 1_796_117_400),
            ("2026-12-01T10:30:00+01:00", 1_796_117_400),
            ("2026-12-01T04:00:00-05:30", 1_796_117_400),
        ] {
            assert_eq!(parse(words), Some(seconds * 1_000_000_000), "{words}");
        }
        for day in [1i64, 58, 59, 60, 365, 11_016, 11_017, 20_000, 47_541] {
            let at = (day * 86_400 + 5) * 1_000_000_000;
            assert_eq!(parse(&text(at).unwrap()), Some(at));
        }
        assert_eq!(parse("1970-01-01T00:00:01.5Z"), Some(1_500_000_000));
        assert_eq!(parse("1970-01-01T00:00:00.000000001Z"), Some(1));
        assert_eq!(text(0), None);
        for wrong in ["", "now", "2026-12-01", "2026-13-01T00:00:00Z", "2026-12-01T00:00:00"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lengths_of_time_have_units() {
        for (words, milliseconds) in
            [("10", 10_000), ("90s", 90_000), ("1h30m", 5_400_000), ("1.5s", 1500), ("5ms", 5)]
        {
            assert_eq!(duration(words), Some(milliseconds * 1_000_000), "{words}");
        }
        for wrong in ["", "h", "1x", "-1s", "1h-"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
