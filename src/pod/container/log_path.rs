//! Where the log of a container lies.

use std::{
    fs,
    os::fd::AsFd,
    path::{Component, Path, PathBuf},
};

use crate::{
    pod::error::{During, Error},
    spec,
    sys::path::Root,
};

/// A log lies beneath the log directory of its sandbox, whatever its path says.
pub(super) fn log_path(directory: &str, path: &str) -> Result<Option<PathBuf>, Error> {
    if directory.is_empty() || path.is_empty() {
        return Ok(None);
    }
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || path.chars().any(char::is_control) {
        let reason = format!("{path:?} must be a relative path without \"..\"");
        return Err(spec::Error::invalid("log_path", reason).into());
    }
    let directory = Path::new(directory);
    let full = directory.join(path);
    if let Some(parent) = Path::new(path).parent() {
        // Beneath the directory, wherever a link that lies there may point.
        fs::create_dir_all(directory)
            .and_then(|()| fs::File::open(directory))
            .and_then(|root| Root::new(root.as_fd()).make_directory(parent, 0o755.into()))
            .during("create log directory", &directory.join(parent))?;
    }
    Ok(Some(full))
}

#[cfg(test)]
mod tests {
    use super::log_path;

    #[test]
    fn logs_stay_in_their_directory() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().to_str().unwrap();
        let expected = directory.path().join("app/0.log");
        assert_eq!(log_path(base, "app/0.log").unwrap(), Some(expected));
        assert!(directory.path().join("app").is_dir());
        for path in ["../0.log", "/0.log", "a/../../b", "a\nb"] {
            assert!(log_path(base, path).is_err(), "{path:?}");
        }
        assert_eq!(log_path(base, "").unwrap(), None);
        assert_eq!(log_path("", "0.log").unwrap(), None);
    }
}
