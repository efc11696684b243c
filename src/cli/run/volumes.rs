//! The directory of a pod: its volumes, made before its containers and removed after them.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    mount::{MountFlags, UnmountFlags, mount, unmount},
};

use super::error::Error;
use crate::{
    play::{Facts, Source, SubPath, Volume, volume_directory},
    sys::{path::Root, tree},
};

/// Everybody may write there, as a container may be anybody.
const SHARED: u32 = 0o777;
/// The same, and what is made there is the group's.
const SHARED_BY_GROUP: u32 = 0o2777;

/// Makes all volumes of a pod.
///
/// # Errors
/// What the kernel refuses, or a path of the host that is not what it is said to be.
pub(super) fn make(volumes: &[Volume], facts: &Facts) -> Result<(), Error> {
    // Other users of the host have no business there; containers do not come this way.
    directory(&facts.directory, 0o700)?;
    directory(&facts.directory.join("volumes"), 0o700)?;
    volumes.iter().try_for_each(|volume| one(volume, &volume_directory(facts, &volume.name)))
}

fn directory(path: &Path, mode: u32) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(Error::io("create directory", path))?;
    // Whatever the umask is.
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::io("change", path))
}

fn one(volume: &Volume, place: &Path) -> Result<(), Error> {
    match &volume.source {
        Source::Directory => {
            directory(place, SHARED)?;
            give(place, volume.group)
        }
        Source::Memory(limit) => {
            directory(place, SHARED)?;
            let size = limit.map(|limit| format!(",size={limit}")).unwrap_or_default();
            in_memory(place, &format!("mode=0777{size}"))?;
            give(place, volume.group)
        }
        Source::Files(files) => {
            directory(place, 0o755)?;
            in_memory(place, "mode=0755")?;
            for file in files {
                let path = place.join(&file.path);
                let parent = path.parent().unwrap_or(place);
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o755)
                    .create(parent)
                    .map_err(Error::io("create directory", parent))?;
                // A group that owns files may read them.
                let mode = file.mode | if volume.group.is_some() { 0o440 } else { 0 };
                let mut made = File::create(&path).map_err(Error::io("create", &path))?;
                made.write_all(&file.content).map_err(Error::io("write", &path))?;
                chown(&path, None, volume.group).map_err(Error::io("change", &path))?;
                let mode = Permissions::from_mode(mode);
                fs::set_permissions(&path, mode).map_err(Error::io("change", &path))?;
            }
            Ok(())
        }
        Source::Host { path, kind } => host(&volume.name, path, kind),
        Source::Image { .. } => Ok(()),
    }
}

fn give(place: &Path, group: Option<u32>) -> Result<(), Error> {
    if group.is_some() {
        chown(place, None, group).map_err(Error::io("change", place))?;
        let mode = Permissions::from_mode(SHARED_BY_GROUP);
        fs::set_permissions(place, mode).map_err(Error::io("change", place))?;
    }
    Ok(())
}

fn in_memory(place: &Path, options: &str) -> Result<(), Error> {
    let options = std::ffi::CString::new(options).unwrap_or_default();
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let mounted = mount("criquet-run", place, "tmpfs", flags, Some(options.as_c_str()));
    mounted.map_err(|errno| Error::io("mount memory at", place)(errno.into()))
}

/// A path of the host, which is made where its type says so.
fn host(volume: &str, path: &Path, kind: &str) -> Result<(), Error> {
    let refused = |reason: String| Error::HostPath {
        volume: volume.to_owned(),
        path: path.to_owned(),
        reason,
    };
    let found = match fs::metadata(path) {
        Ok(metadata) => Some(metadata.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Error::io("look at", path)(error)),
    };
    match (kind, found) {
        ("" | "DirectoryOrCreate", None) => {
            // Docker's way, which Kubernetes has for paths without a type.
            let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
            made.map_err(Error::io("create directory", path))
        }
        ("FileOrCreate", None) => File::options()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|file| file.set_permissions(Permissions::from_mode(0o644)))
            .map_err(Error::io("create", path)),
        ("", Some(_)) => Ok(()),
        (kind, None) => Err(refused(format!("is not there, and must be a {kind}"))),
        (kind, Some(found)) => {
            let is_one = match kind {
                "Directory" | "DirectoryOrCreate" => found.is_dir(),
                "File" | "FileOrCreate" => found.is_file(),
                "Socket" => found.is_socket(),
                "CharDevice" => found.is_char_device(),
                "BlockDevice" => found.is_block_device(),
                _ => true,
            };
            if is_one { Ok(()) } else { Err(refused(format!("is not of type {kind}"))) }
        }
    }
}

/// Makes a part of a volume where it is not there. A link that a container has left in its
/// place leads nowhere.
///
/// # Errors
/// What the kernel refuses; `ELOOP` at a link.
pub(super) fn make_part(part: &SubPath) -> Result<(), Error> {
    let whole = part.volume.join(&part.path);
    let volume = File::open(&part.volume).map_err(Error::io("open", &part.volume))?;
    let root = Root::new(volume.as_fd());
    match root.open_without_links(&part.path, OFlags::PATH) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            root.make_directory(&part.path, Mode::from_raw_mode(0o755))
                .and_then(|_| root.open_without_links(&part.path, OFlags::PATH))
                .map_err(Error::io("create directory", &whole))?;
            let mode = Permissions::from_mode(SHARED);
            fs::set_permissions(&whole, mode).map_err(Error::io("change", &whole))
        }
        result => result.map(drop).map_err(Error::io("open", &whole)),
    }
}

/// Removes the directory of a pod with all that its own.
///
/// # Errors
/// The first thing that cannot be removed; the rest goes.
pub(super) fn remove(pod: &Path) -> Result<(), Error> {
    let volumes = pod.join("volumes");
    let mut places: Vec<PathBuf> = Vec::new();
    if let Ok(entries) = fs::read_dir(&volumes) {
        places.extend(entries.flatten().map(|entry| entry.path()));
    }
    for place in &places {
        // Most are no mounts.
        let _ = unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    }
    match tree::remove_at(pod) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(Error::io("remove", pod)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_host_are_what_they_are_said_to_be() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "").unwrap();
        assert!(host("v", &path("file"), "File").is_ok());
        let error = host("v", &path("file"), "Directory").unwrap_err().to_string();
        assert!(error.starts_with("volume v: ") && error.ends_with("is not of type Directory"));
        let error = host("v", &path("none"), "Socket").unwrap_err().to_string();
        assert!(error.ends_with("is not there, and must be a Socket"), "{error}");
        host("v", &path("new/dir"), "DirectoryOrCreate").unwrap();
        host("v", &path("new-file"), "FileOrCreate").unwrap();
        assert!(path("new/dir").is_dir() && path("new-file").is_file());
    }

    #[test]
    fn a_part_of_a_volume_is_no_way_out_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let volume = directory.path().join("volume");
        fs::create_dir(&volume).unwrap();
        let part = |path: &str| SubPath { volume: volume.clone(), path: path.into() };
        make_part(&part("a/b")).unwrap();
        assert!(volume.join("a/b").is_dir());
        make_part(&part("a/b")).unwrap();
        std::os::unix::fs::symlink("/etc", volume.join("link")).unwrap();
        assert!(make_part(&part("link")).is_err());
        assert!(make_part(&part("link/x")).is_err());
    }

    #[test]
    fn directories_are_shared_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let facts = Facts { directory: directory.path().join("pod"), ..Facts::default() };
        let volume = Volume { name: "v".to_owned(), source: Source::Directory, group: None };
        make(&[volume], &facts).unwrap();
        let place = volume_directory(&facts, "v");
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o7777, SHARED);
        remove(&facts.directory).unwrap();
        assert!(!facts.directory.exists());
        remove(&facts.directory).unwrap();
    }
}
