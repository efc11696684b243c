//! Labels of the files of a volume.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path},
};

use rustix::fs::OFlags;

use crate::{
    pod::{
        error::{During, Error, Reason},
        sandbox::Sandbox,
    },
    spec::{self, config::Mount},
    sys::{path::Root, tree},
    telemetry::Operation,
};

/// Directories of the host below which nothing is relabelled.
const SYSTEM: [&str; 12] = [
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/root", "/sbin", "/sys",
    "/usr",
];

/// Gives a volume and all that is in it a label. Where its root has it already nothing is done:
/// the root is labelled last, and what is made in a directory has the directory's label.
///
/// Links are not followed, and what is mounted in the volume keeps its labels. Goes on until it
/// is done or the sandbox ends, however long the caller waits.
///
/// # Errors
/// A place that belongs to the node; what the kernel refuses.
pub(super) fn relabel(
    mount: &Mount,
    label: &str,
    own: &[&Path],
    sandbox: &Sandbox,
    operation: &Operation,
) -> Result<(), Error> {
    let asked = Path::new(&mount.host_path);
    let path = fs::canonicalize(asked).during("resolve mount source", asked)?;
    if let Some(reason) = fault_of(&path, own) {
        return Err(spec::Error::invalid("mounts.selinux_relabel", reason).into());
    }
    let file = open(&path).during("open", &path)?;
    if tree::label(file.as_fd()).is_ok_and(|now| now == label) {
        return Ok(());
    }
    operation.stage("relabelling a volume");
    let mut is_given_up = false;
    let walked = tree::relabel(file.as_fd(), label, || {
        operation.moves();
        is_given_up = sandbox.ending.is_cancelled();
        !is_given_up
    });
    if is_given_up {
        return Err(Reason::Aborted.into());
    }
    tolerate(walked).during("relabel what is in", &path)?;
    tolerate(tree::set_label(file.as_fd(), label)).during("relabel", &path)
}

/// Opens a path without links. Where one has taken the place of a part of it since it was judged,
/// as whoever writes to the directory above can do, that is an error.
fn open(path: &Path) -> io::Result<OwnedFd> {
    let root = File::open("/")?;
    Root::new(root.as_fd()).open_without_links(path, OFlags::PATH)
}

/// Filesystems without labels of their own, and those that are mounted read-only, are shown with
/// the label that they have.
fn tolerate(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EROFS)) => {
            Ok(())
        }
        result => result,
    }
}

/// Why a path, with its links resolved, is not to be relabelled. `own` is Criquet's.
fn fault_of(path: &Path, own: &[&Path]) -> Option<String> {
    let depth = path.components().filter(|part| matches!(part, Component::Normal(_))).count();
    let is_system = SYSTEM.iter().any(|directory| path.starts_with(directory));
    let is_shared = depth == 2 && path.starts_with("/var");
    let is_own = own.iter().any(|own| path.starts_with(own) || own.starts_with(path));
    (depth < 2 || is_system || is_shared || is_own).then(|| {
        format!(
            "{} belongs to the node, which would lose its labels; leave out the relabelling, or \
             use a directory of the pod's own",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::fault_of;

    #[test]
    fn the_node_keeps_its_labels() {
        let own = [Path::new("/data/criquet/root")];
        for path in [
            "/",
            "/etc",
            "/etc/hosts",
            "/usr/share/x",
            "/home",
            "/srv",
            "/var",
            "/var/lib",
            "/var/log",
            "/proc/sys",
            "/data/criquet",
            "/data/criquet/root",
            "/data/criquet/root/containers/x",
        ] {
            assert!(fault_of(Path::new(path), &own).is_some(), "{path}");
        }
        for path in ["/var/lib/kubelet/pods/x/volumes/y", "/home/me", "/srv/data", "/data/other"] {
            assert_eq!(fault_of(Path::new(path), &own), None, "{path}");
        }
    }
}
