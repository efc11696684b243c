//! One CNI configuration: what a file may say, of whatever version of the specification.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The versions of the specification that are spoken here, oldest first.
const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// A network: plugins that are called one after the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct NetworkList {
    /// Its name.
    pub(super) name: String,
    /// The version of the specification it is written for.
    pub(super) version: String,
    /// The configurations of its plugins.
    pub(super) plugins: Vec<Map<String, Value>>,
    /// The administrator does not want garbage collection.
    #[serde(default)]
    pub(super) disable_gc: bool,
    /// Nor that pods are checked.
    #[serde(default)]
    pub(super) disable_check: bool,
}

/// What a file says, before it is known whether that is all of the network.
pub(super) struct Parsed {
    /// The network with the plugins that stand in the file, which may be none.
    pub(super) network: NetworkList,
    /// The plugins of the directory that has the network's name belong to it as well
    /// (a list that does not say `loadOnlyInlinedPlugins`).
    pub(super) has_directory: bool,
}

impl NetworkList {
    /// Whether the network's version is at least this one of [`VERSIONS`].
    pub(super) fn speaks(&self, version: &str) -> bool {
        rank(&self.version) >= rank(version)
    }

    /// Why the network cannot be used as it is.
    pub(super) fn check(self) -> Result<Self, String> {
        if self.plugins.is_empty() {
            return Err("it has no plugins; name at least one in \"plugins\"".to_owned());
        }
        Ok(self)
    }
}

/// Reads a configuration: a list of plugins, or a single one. `is_list` says that the name of
/// its file is that of a list.
pub(super) fn parse(text: &[u8], is_list: bool) -> Result<Parsed, String> {
    let value: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let Value::Object(mut object) = value else {
        return Err("it is not a JSON object".to_owned());
    };
    let name = take_text(&mut object, "name")
        .filter(|name| is_name(name))
        .ok_or("\"name\" is missing or not made of letters, digits, '_', '.' and '-'")?;
    let version = version_of(&mut object)?;
    let flag = |object: &Map<String, Value>, key: &str| object.get(key).is_some_and(is_true);
    let (disable_gc, disable_check) = (flag(&object, "disableGC"), flag(&object, "disableCheck"));
    let only_inlined = flag(&object, "loadOnlyInlinedPlugins");
    let (plugins, is_list) = match object.remove("plugins") {
        Some(Value::Array(plugins)) => (plugins, true),
        Some(_) => return Err("\"plugins\" is not a list".to_owned()),
        None if is_list && !object.contains_key("type") => (Vec::new(), true),
        None => (vec![Value::Object(object)], false),
    };
    let plugins = plugins.into_iter().map(plugin).collect::<Result<Vec<_>, _>>()?;
    let network = NetworkList { name, version, plugins, disable_gc, disable_check };
    Ok(Parsed { network, has_directory: is_list && !only_inlined })
}

/// The newest of the versions that the configuration is written for. One that says none is as
/// old as can be, as its plugins see it.
fn version_of(object: &mut Map<String, Value>) -> Result<String, String> {
    let mut offered: Vec<String> = take_text(object, "cniVersion").into_iter().collect();
    if let Some(Value::Array(more)) = object.remove("cniVersions") {
        offered.extend(more.iter().filter_map(|version| version.as_str()).map(str::to_owned));
    }
    if offered.iter().all(String::is_empty) {
        return Ok(VERSIONS[0].to_owned());
    }
    let best = offered.iter().filter(|v| rank(v).is_some()).max_by_key(|v| rank(v));
    best.cloned().ok_or_else(|| {
        let versions = VERSIONS.join(", ");
        format!("\"cniVersion\" {offered:?} is not supported; use one of {versions}")
    })
}

/// A plugin's configuration, which names its program.
pub(super) fn plugin(value: Value) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(object) => match object.get("type").and_then(Value::as_str) {
            Some(kind) if is_name(kind) => Ok(object),
            Some(kind) => Err(format!("plugin type {kind:?} is not the name of a program")),
            None => Err("a plugin has no \"type\"".to_owned()),
        },
        _ => Err("a plugin is not a JSON object".to_owned()),
    }
}

fn rank(version: &str) -> Option<usize> {
    VERSIONS.iter().position(|known| *known == version)
}

fn take_text(object: &mut Map<String, Value>, key: &str) -> Option<String> {
    match object.remove(key) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn is_true(value: &Value) -> bool {
    value.as_bool().unwrap_or_else(|| value.as_str() == Some("true"))
}

/// Names become parts of paths.
fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_a_file_may_be() {
        type Expected = Result<(&'static str, usize), &'static str>;
        let table: [(&str, Expected); 10] = [
            (
                r#"{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"x"},{"type":"y"}]}"#,
                Ok(("1.0.0", 2)),
            ),
            (r#"{"cniVersion":"0.3.1","name":"a","type":"bridge"}"#, Ok(("0.3.1", 1))),
            (
                r#"{"cniVersions":["0.4.0","1.1.0","9.0.0"],"name":"a","type":"x"}"#,
                Ok(("1.1.0", 1)),
            ),
            (r#"{"name":"a","type":"x"}"#, Ok(("0.1.0", 1))),
            (r#"{"cniVersion":"0.2.0","name":"a","type":"x"}"#, Ok(("0.2.0", 1))),
            (r#"{"cniVersion":"9.9.9","name":"a","type":"x"}"#, Err("not supported")),
            (r#"{"cniVersion":"1.0.0","type":"x"}"#, Err("\"name\"")),
            (r#"{"cniVersion":"1.0.0","name":"a","plugins":[]}"#, Err("no plugins")),
            (r#"{"cniVersion":"1.0.0","name":"a","type":"../x"}"#, Err("not the name")),
            ("{", Err("EOF")),
        ];
        for (text, expected) in table {
            let parsed = parse(text.as_bytes(), false).and_then(|parsed| parsed.network.check());
            match (parsed, expected) {
                (Ok(list), Ok((version, plugins))) => {
                    assert_eq!((list.version.as_str(), list.plugins.len()), (version, plugins));
                }
                (Err(reason), Err(part)) => assert!(reason.contains(part), "{text}: {reason}"),
                (other, _) => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_an_administrator_turns_off() {
        let text = r#"{"cniVersion":"1.1.0","name":"a","plugins":[{"type":"x"}],"disableGC":true,
            "disableCheck":"true","loadOnlyInlinedPlugins":true}"#;
        let parsed = parse(text.as_bytes(), true).unwrap();
        assert!(parsed.network.disable_gc && parsed.network.disable_check);
        assert!(!parsed.has_directory);
        let parsed = parse(br#"{"cniVersion":"1.1.0","name":"a"}"#, true).unwrap();
        assert!(parsed.has_directory && !parsed.network.disable_check);
        assert!(!parse(br#"{"name":"a","type":"x"}"#, true).unwrap().has_directory);
    }
}
