//! Quantities as Kubernetes writes them (`resource.Quantity`): `10M`, `1.5k`, `2Gi`, `1e3`.

/// The whole number that a quantity is, rounded up; none where it is no quantity, or less than
/// nothing.
pub fn whole(text: &str) -> Option<u64> {
    times(text, 1.0)
}

/// How many thousandths a quantity is, rounded up, as processors are counted; none where it is no
/// quantity, or less than nothing.
pub fn thousandths(text: &str) -> Option<u64> {
    times(text, 1000.0)
}

fn times(text: &str, count: f64) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(digits)?;
    let factor = match suffix {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        "Pi" => 1_125_899_906_842_624.0,
        "Ei" => 1_152_921_504_606_846_976.0,
        _ => 10f64.powi(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let value = number.parse::<f64>().ok()? * factor * count;
    // What is no whole number for want of digits alone is one.
    let nearest = value.round();
    let value = if (value - nearest).abs() < 1e-6 { nearest } else { value.ceil() };
    (0.0..=9e18).contains(&value).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::{thousandths, whole};

    #[test]
    fn quantities_of_kubernetes() {
        for (text, value) in [
            ("10M", Some(10_000_000)),
            ("1.5k", Some(1500)),
            ("1Ki", Some(1024)),
            ("100", Some(100)),
            ("1e3", Some(1000)),
            ("1500m", Some(2)),
            ("", None),
            ("x", None),
            ("10X", None),
            ("1e999", None),
        ] {
            assert_eq!(whole(text), value, "{text}");
        }
    }

    #[test]
    fn thousandths_of_processors() {
        for (text, value) in [
            ("500m", Some(500)),
            ("0.1", Some(100)),
            ("2", Some(2000)),
            ("1.5", Some(1500)),
            ("x", None),
        ] {
            assert_eq!(thousandths(text), value, "{text}");
        }
    }
}
