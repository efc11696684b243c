//! The mounts of a container: those that every one has, and those that are asked for.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Mount as OciMount;

use super::{
    config::{Mount, Propagation},
    container::Sandbox,
    error::Error,
};

/// Options that a single mount may ask for (CRI `Mount.mount_options`).
const EXTRA_OPTIONS: [&str; 8] = [
    "noexec",
    "nodev",
    "nosuid",
    "noatime",
    "relatime",
    "strictatime",
    "nodiratime",
    "nosymfollow",
];

/// What decides about the mounts, besides the mounts asked for.
pub(super) struct Wishes {
    pub privileged: bool,
    pub readonly_rootfs: bool,
}

/// All mounts in the order in which they are made: parents before what lies in them.
pub(super) fn build(
    asked: &[Mount],
    sandbox: &Sandbox,
    wishes: &Wishes,
) -> Result<Vec<OciMount>, Error> {
    let mut mounts = defaults(wishes);
    mounts.extend(of_sandbox(sandbox, wishes));
    for mount in asked {
        let destination = destination_of(mount)?;
        mounts.retain(|other| *other.destination() != destination);
        if destination == Path::new("/dev") {
            mounts.retain(|other| !other.destination().starts_with("/dev/"));
        }
        mounts.push(bind(mount, destination)?);
    }
    mounts.sort_by_key(|mount| mount.destination().components().count());
    Ok(mounts)
}

fn mount(kind: &str, source: &str, destination: &str, options: &[&str]) -> OciMount {
    let mut mount = OciMount::default();
    mount.set_typ(Some(kind.to_owned()));
    mount.set_source(Some(PathBuf::from(source)));
    mount.set_destination(PathBuf::from(destination));
    mount.set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}

fn defaults(wishes: &Wishes) -> Vec<OciMount> {
    let access = if wishes.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        mount("proc", "proc", "/proc", &["nosuid", "noexec", "nodev"]),
        mount("tmpfs", "tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "devpts",
            "devpts",
            "/dev/pts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("sysfs", "sysfs", "/sys", &["nosuid", "noexec", "nodev", access]),
        mount(
            "cgroup",
            "cgroup",
            "/sys/fs/cgroup",
            &["nosuid", "noexec", "nodev", "relatime", access],
        ),
    ];
    // A new mount shows the queues of the IPC namespace that it is made in, the host's included.
    mounts.push(mount("mqueue", "mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]));
    mounts
}

/// Files and memory that the containers of a sandbox share.
fn of_sandbox(sandbox: &Sandbox, wishes: &Wishes) -> Vec<OciMount> {
    let access = if wishes.readonly_rootfs { "ro" } else { "rw" };
    let files = [
        ("/etc/hostname", &sandbox.hostname_file),
        ("/etc/hosts", &sandbox.hosts_file),
        ("/etc/resolv.conf", &sandbox.resolv_conf),
    ];
    let mut mounts: Vec<_> = files
        .into_iter()
        .filter_map(|(destination, source)| {
            let source = source.as_ref()?.to_string_lossy();
            Some(mount("bind", &source, destination, &["rbind", "rprivate", access]))
        })
        .collect();
    if let Some(shm) = &sandbox.shm {
        let options = ["rbind", "rprivate", "nosuid", "nodev", "noexec", "rw"];
        mounts.push(mount("bind", &shm.to_string_lossy(), "/dev/shm", &options));
    }
    mounts
}

fn destination_of(mount: &Mount) -> Result<PathBuf, Error> {
    let path = Path::new(&mount.container_path);
    let field = "mounts.container_path";
    if mount.container_path.is_empty() {
        return Err(Error::invalid(field, "must not be empty"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        let reason = format!("{:?} must not contain \"..\"", mount.container_path);
        return Err(Error::invalid(field, reason));
    }
    // A relative one counts from the root, as with the other runtimes.
    let absolute: PathBuf = Path::new("/").join(path).components().collect();
    if absolute == Path::new("/") {
        return Err(Error::invalid(field, "the root filesystem itself cannot be mounted over"));
    }
    Ok(absolute)
}

fn bind(mount: &Mount, destination: PathBuf) -> Result<OciMount, Error> {
    if !Path::new(&mount.host_path).is_absolute() {
        let reason = format!(
            "{:?} for {:?} must be an absolute path of the host",
            mount.host_path, mount.container_path
        );
        return Err(Error::invalid("mounts.host_path", reason));
    }
    let propagation = match mount.propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    };
    let mut options = vec!["rbind", propagation];
    if mount.recursive_read_only {
        check_recursive(mount)?;
        options.push("rro");
    } else {
        options.push(if mount.readonly { "ro" } else { "rw" });
    }
    for option in &mount.options {
        if !EXTRA_OPTIONS.contains(&option.as_str()) {
            let reason = format!("{option:?} is none of {}", EXTRA_OPTIONS.join(", "));
            return Err(Error::invalid("mounts.mount_options", reason));
        }
        options.push(option);
    }
    let mut bound = self::mount("bind", &mount.host_path, "", &options);
    bound.set_destination(destination);
    Ok(bound)
}

/// The rules of KEP-3857.
fn check_recursive(mount: &Mount) -> Result<(), Error> {
    let field = "mounts.recursive_read_only";
    if !mount.readonly {
        return Err(Error::invalid(field, "needs readonly as well"));
    }
    if mount.propagation != Propagation::Private {
        return Err(Error::invalid(field, "needs the propagation PROPAGATION_PRIVATE"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Wishes, build};
    use crate::spec::{
        config::{Mount, Propagation},
        container::Sandbox,
    };

    const PLAIN: Wishes = Wishes { privileged: false, readonly_rootfs: false };

    fn asked(container_path: &str, host_path: &str) -> Mount {
        Mount {
            container_path: container_path.to_owned(),
            host_path: host_path.to_owned(),
            ..Mount::default()
        }
    }

    fn destinations(mounts: &[Mount]) -> Vec<String> {
        let mounts = build(mounts, &Sandbox::default(), &PLAIN).unwrap();
        mounts.iter().map(|mount| mount.destination().display().to_string()).collect()
    }

    #[test]
    fn parents_come_first_and_users_win() {
        let all =
            destinations(&[asked("/data/deep", "/a"), asked("/data", "/b"), asked("/dev", "/dev")]);
        let position = |path: &str| all.iter().position(|other| other == path);
        assert!(position("/data") < position("/data/deep"));
        assert_eq!(all.iter().filter(|path| *path == "/dev").count(), 1);
        assert_eq!(position("/dev/pts"), None);
    }

    #[test]
    fn wrong_mounts_are_refused() {
        for (mount, word) in [
            (asked("", "/a"), "container_path"),
            (asked("/", "/a"), "root filesystem"),
            (asked("/a/../b", "/a"), ".."),
            (asked("/a", "relative"), "host_path"),
            (Mount { recursive_read_only: true, ..asked("/a", "/a") }, "readonly"),
            (
                Mount {
                    recursive_read_only: true,
                    readonly: true,
                    propagation: Propagation::HostToContainer,
                    ..asked("/a", "/a")
                },
                "PROPAGATION_PRIVATE",
            ),
            (Mount { options: vec!["suid".to_owned()], ..asked("/a", "/a") }, "suid"),
        ] {
            let error = build(&[mount], &Sandbox::default(), &PLAIN).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn options_say_what_was_asked_for() {
        let mount = Mount {
            readonly: true,
            propagation: Propagation::Bidirectional,
            options: vec!["noexec".to_owned()],
            ..asked("/a", "/b")
        };
        let mounts = build(&[mount], &Sandbox::default(), &PLAIN).unwrap();
        let mount = mounts.iter().find(|m| m.destination().ends_with("a")).unwrap();
        assert_eq!(mount.options().as_ref().unwrap(), &["rbind", "rshared", "ro", "noexec"]);
    }
}
