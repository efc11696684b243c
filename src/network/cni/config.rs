//! CNI configurations: which files of the directory are networks, and what is in them.
//!
//! The directory is read anew for each use: a change needs no watch that could be lost,
//! and a directory that was removed and made again is simply there again.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::Error;

/// The versions of the specification that are spoken here, oldest first.
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

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
}

impl NetworkList {
    /// Whether the network's version is at least this one of [`VERSIONS`].
    pub(super) fn speaks(&self, version: &str) -> bool {
        rank(&self.version) >= rank(version)
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let Value::Object(mut object) = value else {
            return Err("it is not a JSON object".to_owned());
        };
        let name = take_text(&mut object, "name")
            .filter(|name| is_name(name))
            .ok_or("\"name\" is missing or not made of letters, digits, '_', '.' and '-'")?;
        let version = version_of(&mut object)?;
        let disable_gc = object.get("disableGC").is_some_and(is_true);
        let plugins = match object.remove("plugins") {
            Some(Value::Array(plugins)) => plugins,
            Some(_) => return Err("\"plugins\" is not a list".to_owned()),
            None => vec![Value::Object(object)],
        };
        let plugins = plugins.into_iter().map(plugin).collect::<Result<Vec<_>, _>>()?;
        if plugins.is_empty() {
            return Err("\"plugins\" is empty; name at least one".to_owned());
        }
        Ok(Self { name, version, plugins, disable_gc })
    }
}

/// The networks of the directory in the order of their files, at most `limit` (0: all).
///
/// None at all if there is no file. If there are files and none can be used, that is an
/// error: the administrator wants a network, and pods must not get another one.
pub(super) fn read_directory(directory: &Path, limit: usize) -> Result<Vec<NetworkList>, Error> {
    let mut networks = Vec::new();
    let mut refused = None;
    for path in candidates(directory)? {
        match fs::read(&path) {
            Ok(text) => match NetworkList::parse(&text) {
                Ok(network) => networks.push(network),
                Err(reason) => {
                    refused.get_or_insert(Error::Configuration { path, reason });
                }
            },
            // Removed since the directory was read.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                refused.get_or_insert(Error::Configuration { path, reason: error.to_string() });
            }
        }
        if limit > 0 && networks.len() >= limit {
            break;
        }
    }
    match refused {
        Some(error) if networks.is_empty() => Err(error),
        _ => Ok(networks),
    }
}

fn candidates(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |error: std::io::Error| Error::Configuration {
        path: directory.to_owned(),
        reason: error.to_string(),
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("conflist" | "conf" | "json")) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn version_of(object: &mut Map<String, Value>) -> Result<String, String> {
    let mut offered: Vec<String> = take_text(object, "cniVersion").into_iter().collect();
    if let Some(Value::Array(more)) = object.remove("cniVersions") {
        offered.extend(more.iter().filter_map(|version| version.as_str()).map(str::to_owned));
    }
    let best = offered.iter().filter(|v| rank(v).is_some()).max_by_key(|v| rank(v));
    best.cloned().ok_or_else(|| {
        let versions = VERSIONS.join(", ");
        format!("\"cniVersion\" {offered:?} is not supported; use one of {versions}")
    })
}

fn plugin(value: Value) -> Result<Map<String, Value>, String> {
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
    use std::fs;

    use super::{NetworkList, read_directory};

    #[test]
    fn what_a_file_may_be() {
        type Expected = Result<(&'static str, usize), &'static str>;
        let table: [(&str, Expected); 8] = [
            (
                r#"{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"x"},{"type":"y"}]}"#,
                Ok(("1.0.0", 2)),
            ),
            (r#"{"cniVersion":"0.3.1","name":"a","type":"bridge"}"#, Ok(("0.3.1", 1))),
            (
                r#"{"cniVersions":["0.4.0","1.1.0","9.0.0"],"name":"a","type":"x"}"#,
                Ok(("1.1.0", 1)),
            ),
            (r#"{"cniVersion":"9.9.9","name":"a","type":"x"}"#, Err("not supported")),
            (r#"{"cniVersion":"1.0.0","type":"x"}"#, Err("\"name\"")),
            (r#"{"cniVersion":"1.0.0","name":"a","plugins":[]}"#, Err("empty")),
            (r#"{"cniVersion":"1.0.0","name":"a","type":"../x"}"#, Err("not the name")),
            ("{", Err("EOF")),
        ];
        for (text, expected) in table {
            match (NetworkList::parse(text.as_bytes()), expected) {
                (Ok(list), Ok((version, plugins))) => {
                    assert_eq!((list.version.as_str(), list.plugins.len()), (version, plugins));
                }
                (Err(reason), Err(part)) => assert!(reason.contains(part), "{text}: {reason}"),
                (other, _) => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_first_usable_file_counts_also_after_the_directory_was_made_again() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("net.d");
        assert!(read_directory(&directory, 1).unwrap().is_empty());
        let network = |name| format!(r#"{{"cniVersion":"1.0.0","name":"{name}","type":"x"}}"#);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("10-bad.conf"), "{").unwrap();
        fs::write(directory.join("README"), "no").unwrap();
        let error = read_directory(&directory, 1).unwrap_err().to_string();
        assert!(error.contains("10-bad.conf"), "{error}");
        fs::write(directory.join("30-c.conflist"), network("c")).unwrap();
        fs::write(directory.join("20-b.json"), network("b")).unwrap();
        let names = |limit| -> Vec<String> {
            read_directory(&directory, limit).unwrap().into_iter().map(|n| n.name).collect()
        };
        assert_eq!(names(1), ["b"]);
        assert_eq!(names(0), ["b", "c"]);
        fs::remove_dir_all(&directory).unwrap();
        assert!(names(1).is_empty());
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("1.conf"), network("d")).unwrap();
        assert_eq!(names(1), ["d"]);
    }
}
