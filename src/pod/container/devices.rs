//! Devices of the host, looked up for a container.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use crate::{
    pod::error::Error,
    spec::{
        self,
        config::{ContainerConfig, Device},
        container::DeviceNode,
    },
};

/// What lies in `/dev` and is the container's own.
const OWN: [&str; 7] = ["pts", "shm", "fd", "mqueue", "console", ".lxc", ".udev"];

/// The devices that a container asks for; for a privileged one all of the host.
pub(in crate::pod) fn look_up(config: &ContainerConfig) -> Result<Vec<DeviceNode>, Error> {
    let mut nodes = Vec::new();
    if config.security.privileged {
        collect(Path::new("/dev"), Path::new("/dev"), "rwm", &mut nodes);
    }
    for device in &config.devices {
        look_up_one(device, &mut nodes)?;
    }
    Ok(nodes)
}

fn look_up_one(device: &Device, nodes: &mut Vec<DeviceNode>) -> Result<(), Error> {
    let Device { container_path, host_path, permissions } = device;
    let permissions = if permissions.is_empty() { "rwm" } else { permissions };
    if !permissions.chars().all(|letter| "rwm".contains(letter)) {
        let reason = format!("{permissions:?} must be made of r, w and m");
        return Err(spec::Error::invalid("devices.permissions", reason).into());
    }
    let inside = Path::new(if container_path.is_empty() { host_path } else { container_path });
    if !inside.is_absolute() || inside.components().any(|c| c == std::path::Component::ParentDir) {
        let reason = format!("{inside:?} must be an absolute path without \"..\"");
        return Err(spec::Error::invalid("devices.container_path", reason).into());
    }
    let invalid = |reason: String| spec::Error::invalid("devices.host_path", reason);
    let resolved = fs::canonicalize(host_path)
        .map_err(|error| invalid(format!("{host_path:?} cannot be used: {error}")))?;
    let before = nodes.len();
    if resolved.is_dir() {
        collect(&resolved, inside, permissions, nodes);
    } else if let Some(node) = node_of(&resolved, inside, permissions) {
        nodes.push(node);
    }
    if nodes.len() == before {
        return Err(invalid(format!("{host_path:?} is no device and holds none")).into());
    }
    Ok(())
}

/// Every device in a directory and below it. What disappears meanwhile is passed over.
fn collect(directory: &Path, inside: &Path, permissions: &str, nodes: &mut Vec<DeviceNode>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if directory == Path::new("/dev") && OWN.iter().any(|own| *own == name) {
            continue;
        }
        let (path, inside) = (entry.path(), inside.join(&name));
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&path, &inside, permissions, nodes),
            Ok(kind) if kind.is_char_device() || kind.is_block_device() => {
                nodes.extend(node_of(&path, &inside, permissions));
            }
            _ => {}
        }
    }
}

fn node_of(path: &Path, inside: &Path, permissions: &str) -> Option<DeviceNode> {
    let metadata = fs::metadata(path).ok()?;
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => return None,
    };
    let mut node = LinuxDevice::default();
    node.set_path(PathBuf::from(inside));
    node.set_typ(kind);
    node.set_major(i64::from(rustix::fs::major(metadata.rdev())));
    node.set_minor(i64::from(rustix::fs::minor(metadata.rdev())));
    node.set_file_mode(Some(metadata.mode() & 0o7777));
    node.set_uid(Some(metadata.uid()));
    node.set_gid(Some(metadata.gid()));
    Some(DeviceNode { node, permissions: permissions.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::look_up;
    use crate::spec::config::{ContainerConfig, Device};

    fn with(host_path: &str, permissions: &str) -> ContainerConfig {
        let device = Device {
            container_path: "/dev/x".to_owned(),
            host_path: host_path.to_owned(),
            permissions: permissions.to_owned(),
        };
        ContainerConfig { devices: vec![device], ..ContainerConfig::default() }
    }

    #[test]
    fn devices_keep_their_numbers() {
        let nodes = look_up(&with("/dev/null", "r")).unwrap();
        assert_eq!((nodes[0].node.major(), nodes[0].node.minor()), (1, 3));
        assert_eq!(nodes[0].node.path().to_str(), Some("/dev/x"));
        assert_eq!(nodes[0].permissions, "r");
    }

    #[test]
    fn what_is_no_device_is_refused() {
        assert!(look_up(&with("/dev/null", "rx")).is_err());
        assert!(look_up(&with("/dev/does-not-exist", "r")).is_err());
        assert!(look_up(&with("/etc/passwd", "r")).is_err());
    }
}
