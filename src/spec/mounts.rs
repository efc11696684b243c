//! The mounts of a container: those that every one has, and those that are asked for.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Mount as OciMount;

use super::{
    config::{ImageVolume, Mount, Propagation},
    error::Error,
    given::Sandbox,
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

/// Overlay's option for one more layer, further below than those before it.
const LAYER: &str = "lowerdir+";
/// An option of the internal runtime: the part of the overlay that is mounted.
const SUB_PATH: &str = "criquet.subpath";

/// What decides about the mounts, besides the mounts asked for.
pub(super) struct Wishes {
    pub privileged: bool,
    pub readonly_rootfs: bool,
}

/// All mounts in the order in which they are made: parents before what lies in them.
pub(super) fn build(
    asked: &[Mount],
    volumes: &[Vec<PathBuf>],
    sandbox: &Sandbox,
    wishes: &Wishes,
) -> Result<Vec<OciMount>, Error> {
    let mut mounts = defaults(wishes);
    mounts.extend(of_sandbox(sandbox, wishes));
    let mut volumes = volumes.iter();
    for mount in asked {
        let destination = destination_of(mount)?;
        mounts.retain(|other| *other.destination() != destination);
        if destination == Path::new("/dev") {
            mounts.retain(|other| !other.destination().starts_with("/dev/"));
        }
        mounts.push(match &mount.image {
            Some(image) => {
                check_image(mount, image)?;
                let layers = volumes.next().map(Vec::as_slice).unwrap_or_default();
                image_volume(mount, image, layers, destination)?
            }
            None => bind(mount, destination)?,
        });
    }
    mounts.sort_by_key(|mount| mount.destination().components().count());
    Ok(mounts)
}

/// Gives an SELinux label to all filesystems that are new, whose files would have one of their
/// own otherwise.
pub(super) fn give_label(mounts: &mut [OciMount], label: &str) {
    let is_new = |mount: &&mut OciMount| {
        matches!(mount.typ().as_deref(), Some("tmpfs" | "devpts" | "mqueue" | "overlay"))
    };
    for mount in mounts.iter_mut().filter(is_new) {
        let mut options = mount.options().clone().unwrap_or_default();
        options.push(format!("context={label}"));
        mount.set_options(Some(options));
    }
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
    let options = ["rbind", "rprivate", "nosuid", "nodev", "noexec", access];
    let files = [
        ("/etc/hostname", &sandbox.hostname_file),
        ("/etc/hosts", &sandbox.hosts_file),
        ("/etc/resolv.conf", &sandbox.resolv_conf),
    ];
    let mut mounts: Vec<_> = files
        .into_iter()
        .filter_map(|(destination, source)| {
            let source = source.as_ref()?.to_string_lossy();
            Some(mount("bind", &source, destination, &options))
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
    let absolute = clean(path);
    if absolute == Path::new("/") {
        return Err(Error::invalid(field, "the root filesystem itself cannot be mounted over"));
    }
    if let Ok(below) = absolute.strip_prefix("/proc")
        && !below.as_os_str().is_empty()
        && !BELOW_PROC.iter().any(|allowed| below == Path::new(allowed))
    {
        let reason = format!(
            "{:?} lies in /proc, where only {} can be replaced",
            mount.container_path,
            BELOW_PROC.join(", ")
        );
        return Err(Error::invalid(field, reason));
    }
    Ok(absolute)
}

/// What lies below `/proc` and may be shown as somebody else sees it, as with runc: figures
/// that lxcfs makes.
const BELOW_PROC: [&str; 11] = [
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "net/dev",
    "slabinfo",
    "stat",
    "swaps",
    "sys/crypto/fips_enabled",
    "sys/kernel/ns_last_pid",
    "uptime",
];

/// The path as it is written from the root, without `.` and `..`; a relative one counts from
/// the root, as with the other runtimes.
pub(super) fn clean(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::from("/"), |mut cleaned, part| {
        match part {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                cleaned.pop();
            }
            _ => {}
        }
        cleaned
    })
}

/// As many volumes as an image may declare; each costs a mount.
const MOST_DECLARED: usize = 256;

/// The places of volumes that an image declares, parents first. None where something is mounted
/// already, nor below that: what is mounted may be kept longer than the container, and would be
/// hidden by what goes with it. None in another volume either, which has that part of the image
/// as well.
///
/// # Errors
/// An image that declares too many.
pub fn declared(volumes: &[String], mounts: &[OciMount]) -> Result<Vec<PathBuf>, Error> {
    if volumes.len() > MOST_DECLARED {
        let reason = format!("declares {} volumes, more than {MOST_DECLARED}", volumes.len());
        return Err(Error::invalid("image", reason));
    }
    let is_mounted = |path: &Path| mounts.iter().any(|m| path.starts_with(m.destination()));
    let makes_sense = |path: &PathBuf| path != Path::new("/") && !is_mounted(path);
    let plain = volumes.iter().filter(|path| !path.contains('\0'));
    let mut paths: Vec<_> = plain.map(|path| clean(Path::new(path))).filter(makes_sense).collect();
    // By their names, parents come right before what lies in them.
    paths.sort();
    paths.dedup_by(|next, kept| next.starts_with(kept));
    Ok(paths)
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
    if mount.idmapped {
        options.push("ridmap");
    }
    options.extend(extra_options(mount)?);
    let mut bound = self::mount("bind", &mount.host_path, "", &options);
    bound.set_destination(destination);
    Ok(bound)
}

/// What `Mount.mount_options` asks for.
fn extra_options(mount: &Mount) -> Result<impl Iterator<Item = &str>, Error> {
    if let Some(option) = mount.options.iter().find(|o| !EXTRA_OPTIONS.contains(&o.as_str())) {
        let reason = format!("{option:?} is none of {}", EXTRA_OPTIONS.join(", "));
        return Err(Error::invalid("mounts.mount_options", reason));
    }
    Ok(mount.options.iter().map(String::as_str))
}

/// The rules of KEP-4639: an image is only ever read, and is all that the mount has.
///
/// # Errors
/// The field that breaks a rule.
pub fn check_image(mount: &Mount, volume: &ImageVolume) -> Result<(), Error> {
    let refused = |field, reason: &str| {
        let place = &mount.container_path;
        Err(Error::invalid(field, format!("of the image volume at {place:?} {reason}")))
    };
    if !mount.readonly {
        return refused("mounts.readonly", "must be set, since images are only read");
    }
    if !mount.host_path.is_empty() {
        return refused("mounts.host_path", "must be empty");
    }
    if mount.propagation != Propagation::Private {
        return refused("mounts.propagation", "must be PROPAGATION_PRIVATE");
    }
    if volume.image.image.is_empty() {
        return refused("mounts.image.image", "must name an image by reference or id");
    }
    let path = Path::new(&volume.sub_path);
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !is_plain || volume.sub_path.chars().any(char::is_control) {
        return refused("mounts.image_sub_path", "must be a relative path without \"..\"");
    }
    Ok(())
}

/// An overlay of the image's layers alone, which nothing can be written to.
fn image_volume(
    mount: &Mount,
    volume: &ImageVolume,
    layers: &[PathBuf],
    destination: PathBuf,
) -> Result<OciMount, Error> {
    let mut options: Vec<String> = ["ro", "nosuid", "nodev"].map(str::to_owned).into();
    options.extend(extra_options(mount)?.map(str::to_owned));
    options.extend(layers.iter().map(|layer| format!("{LAYER}={}", layer.display())));
    if !volume.sub_path.is_empty() {
        options.push(format!("{SUB_PATH}={}", volume.sub_path));
    }
    let mut mount = OciMount::default();
    mount.set_typ(Some("overlay".to_owned()));
    mount.set_source(Some(PathBuf::from("image")));
    mount.set_destination(destination);
    mount.set_options(Some(options));
    Ok(mount)
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
        given::Sandbox,
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
        let mounts = build(mounts, &[], &Sandbox::default(), &PLAIN).unwrap();
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
    fn volumes_of_an_image_leave_mounts_alone() {
        let given = [
            "/data",
            "/data/inner",
            "data/../data",
            "/",
            "/database",
            "/proc/x",
            "/dev",
            "/sys",
            "/mine",
            "/mine/too",
            "/min",
            "/a\0b",
        ];
        let mounts = build(&[asked("/mine", "/x")], &[], &Sandbox::default(), &PLAIN).unwrap();
        let declared = |volumes: &[&str]| {
            let volumes: Vec<_> = volumes.iter().map(|path| (*path).to_owned()).collect();
            super::declared(&volumes, &mounts)
        };
        let paths = declared(&given).unwrap();
        assert_eq!(paths, ["/data", "/database", "/min"].map(std::path::PathBuf::from));
        assert!(declared(&["/x"; 257]).is_err());
    }

    #[test]
    fn destinations_are_cleaned() {
        let all = destinations(&[asked("/mnt/../work/./x", "/a"), asked("/proc/cpuinfo", "/b")]);
        assert!(all.contains(&"/work/x".to_owned()) && all.contains(&"/proc/cpuinfo".to_owned()));
    }

    #[test]
    fn wrong_mounts_are_refused() {
        for (mount, word) in [
            (asked("", "/a"), "container_path"),
            (asked("/", "/a"), "root filesystem"),
            (asked("/a/..", "/a"), "root filesystem"),
            (asked("/x/../proc/sys", "/a"), "/proc"),
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
            let error = build(&[mount], &[], &Sandbox::default(), &PLAIN).unwrap_err();
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
        let mounts = build(&[mount], &[], &Sandbox::default(), &PLAIN).unwrap();
        let mount = mounts.iter().find(|m| m.destination().ends_with("a")).unwrap();
        assert_eq!(mount.options().as_ref().unwrap(), &["rbind", "rshared", "ro", "noexec"]);
    }
}
