//! What containers get on a node besides what is asked for.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxBlockIo, Mount, PosixRlimitType, Spec};

use super::{
    config::ContainerConfig,
    given::{ImageDefaults, Node},
    ulimit::{UNLIMITED, Ulimit},
};

/// What a container gets on this node besides what is asked for.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// Names and values; the image's and the container's go before them.
    pub env: Vec<(String, String)>,
    /// Limits of its processes; of two of one kind the last counts.
    pub ulimits: Vec<Ulimit>,
    /// Files of the host, and where they are bound unless something else is mounted there.
    pub files: Vec<BoundFile>,
    /// What is taken from the modes of new files; none for 022.
    pub umask: Option<u32>,
    /// Let it make cgroups below its own.
    pub writable_cgroups: bool,
}

/// A file of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundFile {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub destination: PathBuf,
    /// Whether the container may write it.
    pub is_writable: bool,
}

/// Gives a container its share of the disks.
pub fn limit_block_io(spec: &mut Spec, block_io: LinuxBlockIo) {
    if let Some(resources) =
        spec.linux_mut().as_mut().and_then(|linux| linux.resources_mut().as_mut())
    {
        resources.set_block_io(Some(block_io));
    }
}

/// Adds them to a spec that was built for this container.
pub fn apply(
    spec: &mut Spec,
    extras: &Extras,
    config: &ContainerConfig,
    image: &ImageDefaults,
    node: &Node,
) {
    let mut process = spec.process().clone().unwrap_or_default();
    let mut environment = process.env().clone().unwrap_or_default();
    for (name, value) in &extras.env {
        let prefix = format!("{name}=");
        let is_of_image = image.env.iter().any(|entry| entry.starts_with(&prefix));
        if is_of_image || config.envs.iter().any(|(known, _)| known == name) {
            continue;
        }
        environment.retain(|entry| !entry.starts_with(&prefix));
        environment.push(format!("{prefix}{value}"));
    }
    process.set_env(Some(environment));
    let limits = in_force(&extras.ulimits);
    let limits: Vec<_> = limits.map(|limit| limit.oci(ceiling(node, limit.kind))).collect();
    process.set_rlimits((!limits.is_empty()).then_some(limits));
    if let Some(umask) = extras.umask {
        let mut user = process.user().clone();
        user.set_umask(Some(umask));
        process.set_user(user);
    }
    spec.set_process(Some(process));

    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for file in &extras.files {
        if !mounts.iter().any(|mount| *mount.destination() == file.destination) {
            mounts.push(bound(file));
        }
    }
    if extras.writable_cgroups {
        mounts.iter_mut().for_each(make_writable);
    }
    mounts.sort_by_key(|mount| mount.destination().components().count());
    spec.set_mounts(Some(mounts));
}

/// The last of each kind.
fn in_force(limits: &[Ulimit]) -> impl Iterator<Item = &Ulimit> {
    let is_last = |(place, limit): &(usize, &Ulimit)| {
        !limits[place + 1..].iter().any(|later| later.kind == limit.kind)
    };
    limits.iter().enumerate().filter(move |entry| is_last(entry)).map(|(_, limit)| limit)
}

fn ceiling(node: &Node, kind: PosixRlimitType) -> u64 {
    let own = node.hard_limits.iter().find(|(known, _)| *known == kind);
    own.map_or(UNLIMITED, |(_, limit)| *limit)
}

fn bound(file: &BoundFile) -> Mount {
    let access = if file.is_writable { "rw" } else { "ro" };
    let options = ["bind", "rprivate", "nosuid", "nodev", "noexec", access];
    let mut mount = Mount::default();
    mount.set_typ(Some("bind".to_owned()));
    mount.set_source(Some(file.source.clone()));
    mount.set_destination(file.destination.clone());
    mount.set_options(Some(options.map(str::to_owned).into()));
    mount
}

/// The cgroup filesystem shows the container's own cgroup as its root.
fn make_writable(mount: &mut Mount) {
    if mount.typ().as_deref() != Some("cgroup") {
        return;
    }
    let options = mount.options().iter().flatten();
    let options = options.map(|option| if option == "ro" { "rw".into() } else { option.clone() });
    let options = options.collect();
    mount.set_options(Some(options));
}

#[cfg(test)]
mod tests {
    use super::{BoundFile, Extras, apply};
    use crate::spec::{
        capabilities,
        config::ContainerConfig,
        given::{ImageDefaults, Node},
        ulimit::Ulimit,
    };
    use oci_spec::runtime::{Mount, PosixRlimitType, Process, Spec};

    #[test]
    fn what_is_asked_for_goes_before_it() {
        let mut process = Process::default();
        let own = ["PATH=/default", "IMAGE=i", "ASKED=a"].map(str::to_owned);
        process.set_env(Some(own.into()));
        let mut taken = Mount::default();
        taken.set_destination("/etc/localtime".into());
        let mut cgroup = Mount::default();
        cgroup.set_typ(Some("cgroup".to_owned()));
        cgroup.set_options(Some(vec!["nosuid".to_owned(), "ro".to_owned()]));
        let mut spec = Spec::default();
        spec.set_process(Some(process)).set_mounts(Some(vec![taken, cgroup]));
        let config = ContainerConfig {
            envs: vec![("ASKED".to_owned(), "a".to_owned())],
            ..ContainerConfig::default()
        };
        let image = ImageDefaults { env: vec!["IMAGE=i".to_owned()], ..ImageDefaults::default() };
        let node = Node {
            capabilities: capabilities::from_bits(0),
            lowest_oom_score_adj: 0,
            processors: 1,
            user_namespaces: false,
            hard_limits: vec![(PosixRlimitType::RlimitNofile, 100)],
        };
        let file = |destination: &str| BoundFile {
            source: "/x".into(),
            destination: destination.into(),
            is_writable: false,
        };
        let pair = |name: &str| (name.to_owned(), "node".to_owned());
        let extras = Extras {
            env: ["PATH", "IMAGE", "ASKED", "MORE"].map(pair).into(),
            ulimits: ["nofile=5:6", "core=0", "nofile=50:1000"]
                .map(|text| Ulimit::parse(text).unwrap())
                .into(),
            files: vec![file("/etc/localtime"), file("/etc/passwd")],
            umask: Some(0o77),
            writable_cgroups: true,
        };
        apply(&mut spec, &extras, &config, &image, &node);
        let process = spec.process().as_ref().unwrap();
        let expected = ["IMAGE=i", "ASKED=a", "PATH=node", "MORE=node"];
        assert_eq!(process.env().as_ref().unwrap(), &expected);
        let limits = process.rlimits().as_ref().unwrap();
        let limits: Vec<_> = limits.iter().map(|l| (l.typ(), l.soft(), l.hard())).collect();
        let (core, nofile) = (PosixRlimitType::RlimitCore, PosixRlimitType::RlimitNofile);
        assert_eq!(limits, [(core, 0, 0), (nofile, 50, 100)]);
        assert_eq!(process.user().umask(), Some(0o77));
        let mounts = spec.mounts().as_ref().unwrap();
        assert_eq!(mounts.len(), 3);
        assert!(mounts.iter().all(|mount| !mount.options().iter().flatten().any(|o| o == "ro")
            || mount.destination().ends_with("passwd")));
    }
}
