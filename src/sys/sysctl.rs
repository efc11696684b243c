//! Kernel settings below `/proc/sys`, by the names that people write.

use std::{
    fs, io,
    io::Write,
    path::{Component, Path, PathBuf},
};

/// Why a setting is not as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that leads elsewhere.
    #[error("{0:?} is not the name of a sysctl")]
    Name(String),
    /// The kernel, or the namespace, does not have it.
    #[error("this kernel has no sysctl {0}")]
    Absent(String),
    /// The kernel does not take it.
    #[error("the kernel refuses {value:?} for {name}: {source}")]
    Refused {
        /// The setting.
        name: String,
        /// What it was to be.
        value: String,
        /// What the kernel says.
        source: io::Error,
    },
}

/// Sets one. Those of networks and IPC belong to the namespaces of the calling thread.
///
/// # Errors
/// Where it is not there, or the kernel does not take the value.
pub fn set(name: &str, value: &str) -> Result<(), Error> {
    let relative = path(name);
    if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(Error::Name(name.to_owned()));
    }
    let file = fs::OpenOptions::new().write(true).open(Path::new("/proc/sys").join(relative));
    let refused =
        |source| Error::Refused { name: name.to_owned(), value: value.to_owned(), source };
    match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::Absent(name.to_owned()))
        }
        file => file.and_then(|mut file| file.write_all(value.as_bytes())).map_err(refused),
    }
}

/// Whether it is one of the network namespace.
pub fn is_of_network(name: &str) -> bool {
    path(name).starts_with("net")
}

/// `net.ipv4.conf.eth0/1.x` and `net/ipv4/conf/eth0.1/x` name the same file: the first of the
/// two separators in the name decides which one it is (`sysctl.d(5)`).
fn path(name: &str) -> PathBuf {
    match name.find(['.', '/']).map(|at| &name[at..=at]) {
        Some(".") => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect::<String>()
            .into(),
        _ => PathBuf::from(name),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{is_of_network, path, set};

    #[test]
    fn both_ways_to_write_a_sysctl() {
        for name in ["net.ipv4.conf.eth0/1.x", "net/ipv4/conf/eth0.1/x"] {
            assert_eq!(path(name), Path::new("net/ipv4/conf/eth0.1/x"));
            assert!(is_of_network(name));
        }
        assert!(!is_of_network("kernel.shm_rmid_forced") && !is_of_network("network.x"));
    }

    #[test]
    fn a_sysctl_cannot_leave_its_directory() {
        let error = set("net/../../sysrq-trigger", "1").unwrap_err();
        assert!(error.to_string().contains("not the name"), "{error}");
        let error = set("net.no.such", "1").unwrap_err();
        assert!(error.to_string().contains("no sysctl"), "{error}");
    }
}
