//! Texts that the kernel cannot take.

use serde::Serialize;
use serde_json::Value;

use super::error::Error;

/// Looks for a zero byte in a configuration, where it would end a path, a name or an argument
/// early. Labels and annotations are nobody's but the caller's.
///
/// # Errors
/// The name of the field that holds one.
pub fn check(field: &'static str, config: &impl Serialize) -> Result<(), Error> {
    match serde_json::to_value(config).ok().and_then(|value| find(&value)) {
        None => Ok(()),
        Some(place) => {
            Err(Error::invalid(field, format!("{place} holds a zero byte; leave it out")))
        }
    }
}

fn find(value: &Value) -> Option<String> {
    let below = |name: &str, value: &Value| {
        find(value).map(|place| match place.as_str() {
            "" => name.to_owned(),
            place => format!("{name}.{place}"),
        })
    };
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(items) => items.iter().find_map(find),
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !["labels", "annotations"].contains(&name.as_str()))
            .find_map(|(name, value)| match name.contains('\0') {
                true => Some(String::new()),
                false => below(name, value),
            }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::spec::config::{ContainerConfig, Mount, SandboxConfig};

    #[test]
    fn a_zero_byte_is_named() {
        let mount = Mount { host_path: "/a\0b".to_owned(), ..Mount::default() };
        let config = ContainerConfig { mounts: vec![mount], ..ContainerConfig::default() };
        let error = check("config", &config).unwrap_err();
        assert!(error.to_string().contains("mounts.host_path"), "{error}");
        let sysctls = [("net.\0".to_owned(), String::new())].into();
        let config = SandboxConfig { sysctls, ..SandboxConfig::default() };
        assert!(check("config", &config).is_err());
        let labels = [("a".to_owned(), "\0".to_owned())].into();
        assert!(check("config", &SandboxConfig { labels, ..SandboxConfig::default() }).is_ok());
    }
}
