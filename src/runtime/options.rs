//! Mount options of a spec, as `mount(8)` writes them.

use crate::sys::mount::MountAttributes;

/// Options sorted by what the kernel does with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MountOptions {
    /// For this mount alone.
    pub attributes: MountAttributes,
    /// For this mount and all below it (`rro` and its like).
    pub recursive: MountAttributes,
    /// `MS_PRIVATE` and its like, with or without all mounts below.
    pub propagation: Option<(u64, bool)>,
    /// A bind mount, with or without all mounts below.
    pub bind: Option<bool>,
    /// Owners as the container's user namespace has them, with or without all mounts below.
    pub idmap: Option<bool>,
    /// What the filesystem itself understands.
    pub data: Vec<(String, Option<String>)>,
}

/// Options that set or clear an attribute; with `r` in front they do so for all mounts below.
const ATTRIBUTES: [(&str, u64, bool); 11] = [
    ("ro", libc::MOUNT_ATTR_RDONLY, true),
    ("nosuid", libc::MOUNT_ATTR_NOSUID, true),
    ("suid", libc::MOUNT_ATTR_NOSUID, false),
    ("nodev", libc::MOUNT_ATTR_NODEV, true),
    ("dev", libc::MOUNT_ATTR_NODEV, false),
    ("noexec", libc::MOUNT_ATTR_NOEXEC, true),
    ("exec", libc::MOUNT_ATTR_NOEXEC, false),
    ("nodiratime", libc::MOUNT_ATTR_NODIRATIME, true),
    ("diratime", libc::MOUNT_ATTR_NODIRATIME, false),
    ("nosymfollow", libc::MOUNT_ATTR_NOSYMFOLLOW, true),
    ("symfollow", libc::MOUNT_ATTR_NOSYMFOLLOW, false),
];

/// Access-time settings exclude each other, so that one has to clear the others.
const ACCESS_TIMES: [(&str, u64); 3] = [
    ("noatime", libc::MOUNT_ATTR_NOATIME),
    ("strictatime", libc::MOUNT_ATTR_STRICTATIME),
    ("relatime", libc::MOUNT_ATTR_RELATIME),
];

const PROPAGATIONS: [(&str, libc::c_ulong); 4] = [
    ("private", libc::MS_PRIVATE),
    ("slave", libc::MS_SLAVE),
    ("shared", libc::MS_SHARED),
    ("unbindable", libc::MS_UNBINDABLE),
];

impl MountOptions {
    /// Sorts the options. What is no option of a mount belongs to the filesystem.
    pub(super) fn parse(options: &[String]) -> Self {
        let mut parsed = Self::default();
        for option in options {
            parsed.add(option);
        }
        parsed
    }

    fn add(&mut self, option: &str) {
        match option {
            // What is not asked to be read-only stays as it is: `rw` takes nothing away from a
            // volume that the host has mounted read-only.
            "defaults" | "async" | "rw" => return,
            "bind" => return self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => return self.bind = Some(true),
            "idmap" => return self.idmap = Some(false),
            "ridmap" => return self.idmap = Some(true),
            _ => {}
        }
        if self.add_attribute(option, false) || self.add_propagation(option, false) {
            return;
        }
        if let Some(all) = option.strip_prefix('r')
            && (self.add_attribute(all, true) || self.add_propagation(all, true))
        {
            return;
        }
        self.data.push(match option.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (option.to_owned(), None),
        });
    }

    fn add_attribute(&mut self, option: &str, recursive: bool) -> bool {
        let attributes = if recursive { &mut self.recursive } else { &mut self.attributes };
        if let Some((_, bit)) = ACCESS_TIMES.iter().find(|(name, _)| *name == option) {
            attributes.clear |= libc::MOUNT_ATTR__ATIME;
            attributes.set = attributes.set & !libc::MOUNT_ATTR__ATIME | bit;
            return true;
        }
        let Some((_, bit, on)) = ATTRIBUTES.iter().find(|(name, ..)| *name == option) else {
            return false;
        };
        if *on {
            attributes.set |= bit;
            attributes.clear &= !bit;
        } else {
            attributes.clear |= bit;
            attributes.set &= !bit;
        }
        true
    }

    fn add_propagation(&mut self, option: &str, recursive: bool) -> bool {
        let found = PROPAGATIONS.iter().find(|(name, _)| *name == option);
        if let Some((_, flag)) = found {
            self.propagation = Some((*flag, recursive));
        }
        found.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::MountOptions;

    fn parse(options: &[&str]) -> MountOptions {
        MountOptions::parse(&options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_sorted() {
        let options = parse(&["rbind", "ro", "nosuid", "rslave", "size=64k", "newinstance"]);
        assert_eq!(options.bind, Some(true));
        assert_eq!(options.attributes.set, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID);
        assert_eq!(options.propagation, Some((libc::MS_SLAVE, true)));
        let data = [("size".into(), Some("64k".into())), ("newinstance".into(), None)];
        assert_eq!(options.data, data);
    }

    #[test]
    fn rw_takes_nothing_else_away() {
        let options = parse(&["rbind", "rprivate", "rw"]);
        assert!(options.attributes.is_empty());
    }

    #[test]
    fn recursive_options_are_kept_apart() {
        let options = parse(&["rbind", "rro", "relatime"]);
        assert_eq!(options.recursive.set, libc::MOUNT_ATTR_RDONLY);
        assert_eq!(options.attributes.clear, libc::MOUNT_ATTR__ATIME);
    }
}
