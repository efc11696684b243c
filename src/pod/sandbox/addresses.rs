//! Addresses that a pod asks for by annotations, where the administrator allows that.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    pod::allowed::{self, AllowedAnnotations},
    spec::{self, config::Map},
};

/// What the pod wants, as CNI plugins are told it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Wanted {
    /// Addresses, with or without prefix lengths.
    pub(super) ips: Vec<String>,
    /// The hardware address; empty for any.
    pub(super) mac: String,
}

/// Reads the annotations.
///
/// # Errors
/// What is no address.
pub(super) fn wanted(
    annotations: &Map,
    allowed: &AllowedAnnotations,
) -> Result<Wanted, spec::Error> {
    let refuse = |key: &str, text: &str, what: &str| {
        let reason = format!("{key}: {text:?} is no {what}");
        Err(spec::Error::invalid("annotations", reason))
    };
    let mut wanted = Wanted::default();
    if let Some((key, text)) = allowed.value(annotations, allowed::IPS, "") {
        for ip in text.split(',').map(str::trim) {
            if ip.parse::<IpAddr>().is_err() && ip.parse::<IpNet>().is_err() {
                return refuse(key, ip, "address; write one of each family, with a comma between");
            }
            wanted.ips.push(ip.to_owned());
        }
    }
    if let Some((key, text)) = allowed.value(annotations, allowed::MAC, "") {
        let is_octet = |part: &str| part.len() == 2 && u8::from_str_radix(part, 16).is_ok();
        if text.split(':').count() != 6 || !text.split(':').all(is_octet) {
            return refuse(key, text, "hardware address such as 02:42:0a:00:00:05");
        }
        wanted.mac = text.to_owned();
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::{Wanted, wanted};
    use crate::{pod::allowed::AllowedAnnotations, spec::config::Map};

    #[test]
    fn only_addresses_and_only_where_they_are_allowed() {
        let annotations = |ips: &str, mac: &str| -> Map {
            [("io.criquet.ips", ips), ("io.criquet.mac", mac)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into()
        };
        let good = annotations("10.0.0.5/24, fd00::5", "02:42:0a:00:00:05");
        let all = AllowedAnnotations(vec!["io.criquet.ips".into(), "io.criquet.mac".into()]);
        let expected = Wanted {
            ips: vec!["10.0.0.5/24".to_owned(), "fd00::5".to_owned()],
            mac: "02:42:0a:00:00:05".to_owned(),
        };
        assert_eq!(wanted(&good, &all).unwrap(), expected);
        assert_eq!(wanted(&good, &AllowedAnnotations::default()).unwrap(), Wanted::default());
        for (ips, mac) in [("10.0.0", "02:42:0a:00:00:05"), ("10.0.0.5", "02:42"), ("", "")] {
            assert!(wanted(&annotations(ips, mac), &all).is_err(), "{ips} {mac}");
        }
    }
}
