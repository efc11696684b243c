//! Looks at the machine: everything that bears an id, wherever a daemon with this configuration
//! puts such things. What bears none is nobody's business here.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{DirEntryExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::thing::{Accounts, Owner, Removal, Thing, is_id};
use crate::{
    admin::v1::StrayKind,
    cli::config::Config,
    runtime::cgroup::{Cgroup, Version, children},
    systemd::slice,
};

/// Everything that could be a stranger.
pub(super) fn everything(config: &Config, known: &Accounts) -> Vec<Thing> {
    let mut things = super::processes::monitors(&config.state, known.daemon());
    things.extend(cgroups(config, known));
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    things.extend(mounts(config, &mountinfo));
    things.extend(files(config));
    things
}

fn scope_id(name: &str) -> Option<&str> {
    name.strip_prefix("criquet-")?.strip_suffix(".scope").filter(|id| is_id(id))
}

fn cgroups(config: &Config, known: &Accounts) -> Vec<Thing> {
    let Ok(version) = Version::detect() else { return Vec::new() };
    let mut parents = BTreeSet::from([config.cgroup_parent.clone()]);
    let slice = slice::for_path(&config.cgroup_parent).and_then(|name| slice::path_of(&name));
    parents.extend(slice);
    let own: BTreeSet<&Path> = known.cgroups.iter().map(PathBuf::as_path).collect();
    // Those of pods that the kubelet has given a place, if they are scopes.
    let is_scope = |path: &&&Path| {
        path.file_name().and_then(|n| n.to_str()).is_some_and(|n| scope_id(n).is_some())
    };
    parents
        .extend(own.iter().filter(is_scope).filter_map(|path| path.parent()).map(Path::to_owned));
    let mut things = Vec::new();
    for parent in &parents {
        for name in children(version, parent) {
            let id = scope_id(&name).or_else(|| Some(name.as_str()).filter(|name| is_id(name)));
            let Some(id) = id.map(str::to_owned) else { continue };
            // In a pod's own cgroup lie those of its containers.
            let owner = match own.contains(parent.as_path()) {
                true => Owner::Container(id),
                false => Owner::Sandbox(id),
            };
            things.extend(cgroup(version, &parent.join(&name), owner));
        }
    }
    for pod in own {
        for name in children(version, pod) {
            let owner = match name.strip_prefix("monitor-") {
                Some(id) if is_id(id) => Owner::Sandbox(id.to_owned()),
                _ if is_id(&name) => Owner::Container(name.clone()),
                _ => continue,
            };
            things.extend(cgroup(version, &pod.join(&name), owner));
        }
    }
    things
}

fn cgroup(version: Version, path: &Path, owner: Owner) -> Option<Thing> {
    let cgroup = Cgroup::open(version, path).ok()?;
    let file = cgroup.file_of("memory", "cgroup.procs");
    let directory = file.parent()?;
    let mark = fs::metadata(directory).ok()?.ino();
    let place = directory.display().to_string();
    let removal = Removal::Cgroup { path: path.to_owned(), processes: processes_in(directory) };
    Some(Thing { what: "cgroup", place, owner, mark, removal })
}

/// How many processes there are in a cgroup and below it.
fn processes_in(directory: &Path) -> usize {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let below = fs::read_dir(directory).into_iter().flatten().flatten();
    let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    text.lines().count() + below.map(|entry| processes_in(&entry.path())).sum::<usize>()
}

/// Mount points in directories that bear an id, the outer ones first.
fn mounts(config: &Config, mountinfo: &str) -> Vec<Thing> {
    let mut things = Vec::new();
    // The kernel tells names without links.
    let real = |path: PathBuf| path.canonicalize().unwrap_or(path);
    let places = [
        (real(config.state.join("pods")), true),
        (real(config.root.join("containers")), false),
        (real(config.root.join("work")), false),
        (real(config.root.join("volumes")), false),
    ];
    for line in mountinfo.lines() {
        let mut fields = line.split(' ');
        let number = fields.next().and_then(|number| number.parse().ok());
        let (Some(mark), Some(point)) = (number, fields.nth(3).map(unescaped)) else { continue };
        for (place, is_of_pods) in &places {
            let Ok(rest) = point.strip_prefix(place) else { continue };
            let id = rest.iter().next().and_then(|name| name.to_str()).filter(|name| is_id(name));
            let Some(id) = id.map(str::to_owned) else { continue };
            things.push(Thing {
                what: "mount",
                place: point.display().to_string(),
                owner: if *is_of_pods { Owner::Sandbox(id) } else { Owner::Container(id) },
                mark,
                removal: Removal::Unmount(point.clone()),
            });
        }
    }
    things
}

/// Spaces and the like are octal numbers in proc_pid_mountinfo(5).
fn unescaped(field: &str) -> PathBuf {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let number = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match number {
            Some(byte) => {
                text.push(char::from(byte));
                text.push_str(&part[3..]);
            }
            None => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text.into()
}

/// Files and directories that bear an id or a layer's number.
fn files(config: &Config) -> Vec<Thing> {
    let id = |name: &str| Some(name.to_owned()).filter(|name| is_id(name));
    let container = |name: &str| id(name).map(Owner::Container);
    let sandbox = |name: &str| id(name).map(Owner::Sandbox);
    let layer = |name: &str| name.split('.').next()?.parse().ok().map(Owner::Layer);
    // What lies beside a bundle has an extension to the same name.
    let beside = |name: &str| id(name.split('.').next()?).map(Owner::Container);
    let images = config.image_options().root;
    let mut things = Vec::new();
    for name in ["containers", "work", "volumes"] {
        things.extend(entries("directory", &config.root.join(name), container));
    }
    things.extend(entries("directory", &config.state.join("pods"), sandbox));
    things.extend(entries("file", &config.state.join("bundles"), beside));
    for name in ["layers", "recipes"] {
        things.extend(entries("layer", &images.join(name), layer));
    }
    let holders = entries("holder", &images.join("holders"), container);
    things.extend(holders.into_iter().map(|mut thing| {
        if let Owner::Container(id) = &thing.owner {
            thing.removal = Removal::Daemon(StrayKind::Holder, id.clone());
        }
        thing
    }));
    let named = |name: &str| id(name.strip_prefix("criquet-")?).map(Owner::Sandbox);
    let namespaces = entries("namespace", &config.netns_dir, named);
    things.extend(namespaces.into_iter().map(|mut thing| {
        thing.removal = Removal::UnmountAndDelete(PathBuf::from(&thing.place));
        thing
    }));
    things
}

fn entries(
    what: &'static str,
    directory: &Path,
    owner_of: impl Fn(&str) -> Option<Owner>,
) -> Vec<Thing> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let thing = |entry: fs::DirEntry| {
        let path = entry.path();
        let owner = owner_of(entry.file_name().to_str()?)?;
        // The entry's own number: that of a mount over it would change with the mount.
        let place = path.display().to_string();
        Some(Thing { what, place, owner, mark: entry.ino(), removal: Removal::Delete(path) })
    };
    entries.filter_map(thing).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::{Owner, files, mounts, unescaped};
    use crate::cli::config::Config;

    #[test]
    fn only_what_bears_an_id_is_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let (root, state) = (directory.path().join("root"), directory.path().join("state"));
        let netns_dir = directory.path().join("netns");
        let config = Config { root, state, netns_dir, ..Config::default() };
        let id = "a".repeat(64);
        let names = [
            (config.root.join("containers"), id.clone()),
            (config.root.join("containers"), "notes".to_owned()),
            (config.state.join("bundles"), format!("{id}.seccomp")),
            (config.root.join("images/layers"), "12".to_owned()),
            (config.root.join("images/layers"), "12.json".to_owned()),
            (config.root.join("images/layers"), "readme".to_owned()),
            (config.netns_dir.clone(), format!("criquet-{id}")),
            (config.netns_dir.clone(), "cni-1234".to_owned()),
        ];
        for (directory, name) in names {
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(name), "").unwrap();
        }
        let found = files(&config);
        let of = |what: &str| found.iter().filter(|thing| thing.what == what).count();
        let counts = ["directory", "file", "layer", "namespace"].map(of);
        assert_eq!((counts, found.len()), ([1, 1, 2, 1], 5), "{found:#?}");

        let mountinfo = format!(
            "30 1 0:5 / {0}/pods/{id}/shm rw - tmpfs shm rw\n31 1 0:5 / {0}/pods/mine rw - t t rw\n",
            config.state.display()
        );
        let found = mounts(&config, &mountinfo);
        assert!(matches!(&found[..], [one] if one.mark == 30 && one.owner == Owner::Sandbox(id)));
    }

    #[test]
    fn names_of_mount_points_may_have_spaces() {
        assert_eq!(unescaped(r"/a\040b\134c"), PathBuf::from(r"/a b\c"));
        assert_eq!(unescaped(r"/a\x"), PathBuf::from(r"/a\x"));
    }
}
