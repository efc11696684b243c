//! Sources of mounts: made where they are absent, and able to propagate where that is asked.

use std::{fs, io, path::Path};

use crate::{
    pod::error::{During, Error},
    spec::{
        self,
        config::{Mount, Propagation},
    },
};

/// Checks the source of a mount, and makes a directory where there is nothing, as users of
/// the other runtimes expect.
pub(in crate::pod) fn prepare(mount: &Mount) -> Result<(), Error> {
    let path = Path::new(&mount.host_path);
    if !path.is_absolute() {
        // Told with all else about the mount when its spec is built.
        return Ok(());
    }
    match fs::create_dir_all(path) {
        // There, and not a directory.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            let reason = format!("{:?} lies below a file", mount.host_path);
            return Err(spec::Error::invalid("mounts.host_path", reason).into());
        }
        result => result.during("create mount source", path)?,
    }
    check(mount)
}

fn check(mount: &Mount) -> Result<(), Error> {
    if mount.propagation == Propagation::Private {
        return Ok(());
    }
    let path = Path::new(&mount.host_path);
    let resolved = fs::canonicalize(path).during("resolve mount source", path)?;
    let table = Path::new("/proc/self/mountinfo");
    let table = fs::read_to_string(table).during("read", table)?;
    let tags = tags_of(&table, &resolved.to_string_lossy());
    let shared = tags.iter().any(|tag| tag.starts_with("shared:"));
    let slave = tags.iter().any(|tag| tag.starts_with("master:"));
    let (able, wanted) = match mount.propagation {
        Propagation::Bidirectional => (shared, "shared"),
        _ => (shared || slave, "shared or slave"),
    };
    if able {
        return Ok(());
    }
    let reason = format!(
        "{:?} is on a mount that is not {wanted}; make it so with: mount --make-rshared",
        mount.host_path
    );
    Err(spec::Error::invalid("mounts.propagation", reason).into())
}

/// The optional fields of the mount that a path is on (`proc_pid_mountinfo(5)`): the last one
/// in the table whose mount point is the longest that the path begins with.
fn tags_of<'a>(table: &'a str, path: &str) -> Vec<&'a str> {
    let mut best: (usize, Vec<&str>) = (0, Vec::new());
    for line in table.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let Some(point) = fields.get(4) else { continue };
        let point = unescape(point);
        if Path::new(path).starts_with(&point) && point.len() >= best.0 {
            let tags = fields[6..].iter().take_while(|field| **field != "-");
            best = (point.len(), tags.copied().collect());
        }
    }
    best.1
}

/// White space and backslashes are written in octal.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::{prepare, tags_of};
    use crate::spec::config::Mount;

    #[test]
    fn the_longest_and_last_mount_point_counts() {
        let table = "1 0 8:1 / / rw shared:1 - ext4 a rw\n\
                     2 1 8:2 / /data rw master:3 - ext4 b rw\n\
                     3 1 8:2 / /data\\040x rw - ext4 b rw\n\
                     4 1 8:3 / /data rw - ext4 c rw";
        assert_eq!(tags_of(table, "/other"), ["shared:1"]);
        assert_eq!(tags_of(table, "/data/a"), [] as [&str; 0]);
        assert_eq!(tags_of(table, "/data x/a"), [] as [&str; 0]);
        assert_eq!(tags_of(table, "/database"), ["shared:1"]);
    }

    #[test]
    fn absent_sources_become_directories() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("a/b");
        let mount = |path: &std::path::Path| Mount {
            host_path: path.to_str().unwrap().to_owned(),
            ..Mount::default()
        };
        prepare(&mount(&source)).unwrap();
        assert!(source.is_dir());
        std::fs::write(directory.path().join("file"), "").unwrap();
        prepare(&mount(&directory.path().join("file"))).unwrap();
        assert!(prepare(&mount(&directory.path().join("file/x"))).is_err());
    }
}
