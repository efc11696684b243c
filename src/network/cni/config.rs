//! Which files of the directory of CNI configurations are networks.
//!
//! The directory is read anew for each use: a change needs no watch that could be lost,
//! and a directory that was removed and made again is simply there again.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{
    super::Error,
    list::{NetworkList, Parsed, parse, plugin},
};

/// The networks of a directory.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Those that can be used, in the order of their files; none at all if there is no file.
    pub(super) networks: Vec<NetworkList>,
    /// What is wrong with files that were passed over.
    pub(super) passed_over: Vec<Error>,
}

/// The networks of the directory in the order of their files, at most `limit` (0: all).
///
/// If there are files and none can be used, that is an error: the administrator wants a
/// network, and pods must not get another one.
pub(super) fn read_directory(directory: &Path, limit: usize) -> Result<Found, Error> {
    let mut found = Found::default();
    for path in candidates(directory, &["conflist", "conf", "json"])? {
        match read_file(directory, &path) {
            Ok(Some(network)) => found.networks.push(network),
            Ok(None) => {}
            Err(reason) => found.passed_over.push(Error::Configuration { path, reason }),
        }
        if limit > 0 && found.networks.len() >= limit {
            break;
        }
    }
    if found.networks.is_empty() && !found.passed_over.is_empty() {
        return Err(found.passed_over.swap_remove(0));
    }
    Ok(found)
}

/// One network with all its plugins; none of a file that was removed meanwhile.
fn read_file(directory: &Path, path: &Path) -> Result<Option<NetworkList>, String> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|error| error.to_string())?,
    };
    let is_list = path.extension().is_some_and(|extension| extension == "conflist");
    let Parsed { mut network, has_directory } = parse(&text, is_list)?;
    if has_directory {
        let more = directory.join(&network.name);
        for path in candidates(&more, &["conf"]).map_err(|error| error.to_string())? {
            let of_file = |reason: String| format!("{}: {reason}", path.display());
            let text = fs::read(&path).map_err(|error| of_file(error.to_string()))?;
            let value = serde_json::from_slice(&text).map_err(|error| of_file(error.to_string()));
            network.plugins.push(plugin(value?).map_err(of_file)?);
        }
    }
    network.check().map(Some)
}

/// The files with these endings in the order of their names; none where there is no directory.
fn candidates(directory: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, Error> {
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
        if extension.is_some_and(|extension| endings.contains(&extension)) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::read_directory;

    #[test]
    fn the_first_usable_file_counts_also_after_the_directory_was_made_again() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("net.d");
        assert!(read_directory(&directory, 1).unwrap().networks.is_empty());
        let network = |name| format!(r#"{{"cniVersion":"1.0.0","name":"{name}","type":"x"}}"#);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("10-bad.conf"), "{").unwrap();
        fs::write(directory.join("README"), "no").unwrap();
        let error = read_directory(&directory, 1).unwrap_err().to_string();
        assert!(error.contains("10-bad.conf"), "{error}");
        fs::write(directory.join("30-c.conflist"), network("c")).unwrap();
        fs::write(directory.join("20-b.json"), network("b")).unwrap();
        let names = |limit| -> Vec<String> {
            let found = read_directory(&directory, limit).unwrap();
            found.networks.into_iter().map(|n| n.name).collect()
        };
        assert_eq!(names(1), ["b"]);
        assert_eq!(names(0), ["b", "c"]);
        let passed_over = read_directory(&directory, 1).unwrap().passed_over;
        assert!(passed_over[0].to_string().contains("10-bad.conf"), "{passed_over:?}");
        fs::remove_dir_all(&directory).unwrap();
        assert!(names(1).is_empty());
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("1.conf"), network("d")).unwrap();
        assert_eq!(names(1), ["d"]);
    }

    #[test]
    fn plugins_of_a_list_can_lie_in_a_directory_of_its_name() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path();
        fs::write(
            directory.join("10-a.conflist"),
            r#"{"cniVersion":"1.1.0","name":"a","plugins":[{"type":"x"}]}"#,
        )
        .unwrap();
        fs::create_dir(directory.join("a")).unwrap();
        fs::write(directory.join("a/20-z.conf"), r#"{"type":"z"}"#).unwrap();
        fs::write(directory.join("a/10-y.conf"), r#"{"type":"y"}"#).unwrap();
        let kinds = || -> Vec<String> {
            let networks = read_directory(directory, 1).unwrap().networks;
            networks[0].plugins.iter().map(|p| p["type"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(kinds(), ["x", "y", "z"]);
        fs::write(
            directory.join("10-a.conflist"),
            r#"{"cniVersion":"1.1.0","name":"a","loadOnlyInlinedPlugins":true,
                "plugins":[{"type":"x"}]}"#,
        )
        .unwrap();
        assert_eq!(kinds(), ["x"]);
        fs::write(directory.join("10-a.conflist"), r#"{"cniVersion":"1.1.0","name":"a"}"#).unwrap();
        assert_eq!(kinds(), ["y", "z"]);
        fs::write(directory.join("a/20-z.conf"), "{").unwrap();
        let error = read_directory(directory, 1).unwrap_err().to_string();
        assert!(error.contains("20-z.conf"), "{error}");
    }
}
