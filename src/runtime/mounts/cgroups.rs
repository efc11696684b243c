//! The cgroup filesystems of a container.

use std::{os::fd::AsFd, path::Path};

use rustix::fs::{AtFlags, CWD, statat, symlinkat};

use super::{directory, set_attributes};
use crate::{
    runtime::{
        cgroup,
        detached::{self, filesystem},
        error::{During, Error},
        options::MountOptions,
    },
    sys::path::Root,
};

/// The cgroup filesystems of the host.
pub(super) enum Cgroups {
    V1(Vec<(String, Vec<String>)>),
    V2,
}

impl Cgroups {
    /// What a mount of this type shows.
    pub(super) fn find(kind: Option<&str>) -> Result<Self, Error> {
        let version = cgroup::Version::detect().during("inspect", cgroup::ROOT)?;
        match version {
            cgroup::Version::V1 if kind == Some("cgroup") => v1_hierarchies().map(Self::V1),
            _ => Ok(Self::V2),
        }
    }

    /// The cgroup filesystem as the container's cgroup namespace shows it: one mount on v2, one
    /// for each hierarchy below a small tmpfs on v1.
    pub(super) fn attach(
        self,
        root: Root<'_>,
        destination: &Path,
        options: &MountOptions,
    ) -> Result<(), Error> {
        let target = directory(root, destination)?;
        let Cgroups::V1(hierarchies) = self else {
            let tree = filesystem("cgroup2", Some(Path::new("cgroup")), &[])?;
            set_attributes(tree.as_fd(), options, true)?;
            return detached::attach(tree.as_fd(), target.as_fd());
        };
        let data = [("mode".to_owned(), Some("755".to_owned()))];
        let tree = filesystem("tmpfs", Some(Path::new("tmpfs")), &data)?;
        detached::attach(tree.as_fd(), target.as_fd())?;
        for (name, controllers) in hierarchies {
            let place = destination.join(&name);
            let target = directory(root, &place)?;
            let data: Vec<_> = controllers.into_iter().map(split_option).collect();
            let hierarchy = filesystem("cgroup", Some(Path::new("cgroup")), &data)?;
            set_attributes(hierarchy.as_fd(), options, true)?;
            detached::attach(hierarchy.as_fd(), target.as_fd())?;
            // `cpu` and `cpuacct` lead to `cpu,cpuacct`.
            for (key, _) in data.iter().filter(|(key, value)| value.is_none() && *key != name) {
                symlinkat(name.as_str(), tree.as_fd(), key.as_str()).during("link", key)?;
            }
        }
        set_attributes(tree.as_fd(), options, true)
    }
}

fn split_option(option: String) -> (String, Option<String>) {
    match option.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (option, None),
    }
}

/// Mount names and controllers of the v1 hierarchies that this process is in and that the
/// host has mounted: `/proc/self/cgroup` lines are `ID:CONTROLLERS:PATH`.
fn v1_hierarchies() -> Result<Vec<(String, Vec<String>)>, Error> {
    let file = "/proc/self/cgroup";
    let text = std::fs::read_to_string(file).during("read", file)?;
    Ok(text
        .lines()
        .filter_map(|line| line.split(':').nth(1))
        .filter(|controllers| !controllers.is_empty())
        .map(|controllers| {
            let name = controllers.strip_prefix("name=").unwrap_or(controllers).to_owned();
            (name, controllers.split(',').map(str::to_owned).collect())
        })
        .filter(|(name, _): &(String, Vec<String>)| {
            statat(CWD, Path::new(cgroup::ROOT).join(name), AtFlags::empty()).is_ok()
        })
        .collect())
}
