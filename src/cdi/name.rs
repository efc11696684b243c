//! Names of devices: `vendor.com/class=name`.

use super::Error;

/// Checks a qualified name and splits it into its kind (vendor and class) and its own name.
pub(super) fn parse(device: &str) -> Result<(&str, &str), Error> {
    let wrong = |reason| Error::Name { device: device.to_owned(), reason };
    let (kind, name) = device.split_once('=').ok_or_else(|| wrong("it has no '='"))?;
    check_kind(kind).map_err(wrong)?;
    check_name(name).map_err(wrong)?;
    Ok((kind, name))
}

/// Whether this is `vendor/class`.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn check_kind(kind: &str) -> Result<(), &'static str> {
    let (vendor, class) = kind.split_once('/').ok_or("it has no '/' after the vendor")?;
    let is_label = |label: &str| {
        label.starts_with(|c: char| c.is_ascii_alphabetic()) && is_made_of(label, "_-.")
    };
    match is_label(vendor) && is_label(class) {
        true => Ok(()),
        false => Err("vendor and class are letters, digits, '_', '-' and '.', and begin with a \
                      letter"),
    }
}

/// Whether this is the name of a device of its kind.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    match begins_well && is_made_of(name, "_-.:") {
        true => Ok(()),
        false => Err("a device's name is letters, digits, '_', '-', '.' and ':', and begins and \
                      ends with a letter or digit"),
    }
}

fn is_made_of(text: &str, signs: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || signs.contains(c))
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn names_are_qualified() {
        for good in ["vendor.com/gpu=0", "v/c=all", "Vendor-1.x/net.vf=a:b_c.d"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        assert_eq!(parse("vendor.com/gpu=0").unwrap(), ("vendor.com/gpu", "0"));
        for bad in [
            "", "gpu0", "/dev/x", "v/c", "v=c", "v/c=", "1v/c=x", "v/c=x-", "v/c/d=x", "v/c-=x",
            "v/c=x=y",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
