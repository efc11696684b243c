//! Labels of SELinux: `user:role:type:level`.
//!
//! The types that containers have are the policy's business, which names them in its file
//! `lxc_contexts`. What a pod asks for replaces parts of these labels, and a level keeps it apart
//! from other pods.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::config::SelinuxOptions;

/// The type of a policy where its configuration names none.
const DEFAULT_POLICY: &str = "targeted";

/// The type of a container that nothing confines, in every policy that knows containers.
const UNCONFINED: &str = "spc_t";

/// A label. The level may hold colons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The SELinux user.
    pub user: String,
    /// The role.
    pub role: String,
    /// The type.
    pub kind: String,
    /// The level or range, such as `s0:c1,c2`; empty in a policy without levels.
    pub level: String,
}

impl Label {
    /// Reads a label.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().splitn(4, ':').map(str::to_owned);
        let label = Self {
            user: parts.next()?,
            role: parts.next()?,
            kind: parts.next()?,
            level: parts.next().unwrap_or_default(),
        };
        let has_all = [&label.user, &label.role, &label.kind].iter().all(|part| !part.is_empty());
        has_all.then_some(label)
    }

    /// The sensitivity, which comes before the categories.
    pub fn sensitivity(&self) -> &str {
        self.level.split([':', '-']).next().unwrap_or_default()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.user, self.role, self.kind)?;
        if self.level.is_empty() { Ok(()) } else { write!(f, ":{}", self.level) }
    }
}

/// What a policy gives to containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// Of processes.
    pub process: Label,
    /// Of files.
    pub file: Label,
}

impl Defaults {
    /// The file that names them, by the text of `/etc/selinux/config`, which names the policy.
    pub fn file(config: &str) -> PathBuf {
        let policy = config.lines().find_map(|line| line.trim().strip_prefix("SELINUXTYPE="));
        let policy = policy.map(str::trim).filter(|name| !name.is_empty() && !name.contains('/'));
        let policy = policy.unwrap_or(DEFAULT_POLICY);
        Path::new("/etc/selinux").join(policy).join("contexts/lxc_contexts")
    }

    /// Reads the policy's file `lxc_contexts`: lines such as `process = "LABEL"`.
    pub fn parse(text: &str) -> Option<Self> {
        let value = |wanted: &str| {
            text.lines()
                .filter_map(|line| line.split_once('='))
                .find(|(key, _)| key.trim() == wanted)
                .and_then(|(_, value)| Label::parse(value.trim().trim_matches('"')))
        };
        Some(Self { process: value("process")?, file: value("file")? })
    }
}

/// The labels of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// Of its processes.
    pub process: Label,
    /// Of its files.
    pub mount: Label,
}

/// The labels of a container in a pod. `level` is the pod's own, for where none is asked for.
pub fn labels(
    defaults: &Defaults,
    level: &str,
    of_pod: &SelinuxOptions,
    of_container: &SelinuxOptions,
    privileged: bool,
) -> Labels {
    let asked = |get: fn(&SelinuxOptions) -> &String| {
        [of_container, of_pod].into_iter().map(get).find(|part| !part.is_empty()).cloned()
    };
    let mut labels = Labels { process: defaults.process.clone(), mount: defaults.file.clone() };
    // One that nothing confines reaches the files of every level.
    let unconfined = privileged && asked(|options| &options.kind).is_none();
    if unconfined {
        labels.process.kind = UNCONFINED.to_owned();
    }
    if let Some(user) = asked(|options| &options.user) {
        labels.process.user.clone_from(&user);
        labels.mount.user = user;
    }
    if let Some(role) = asked(|options| &options.role) {
        labels.process.role = role;
    }
    if let Some(kind) = asked(|options| &options.kind) {
        labels.process.kind = kind;
    }
    match asked(|options| &options.level) {
        Some(asked) => {
            labels.process.level.clone_from(&asked);
            labels.mount.level = asked;
        }
        None if level.is_empty() => {}
        None => {
            if !unconfined {
                labels.process.level = level.to_owned();
            }
            labels.mount.level = level.to_owned();
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Defaults, Label, labels};
    use crate::spec::config::SelinuxOptions;

    const FILE: &str = "# of a policy\n\
        process = \"system_u:system_r:container_t:s0\"\n\
        content = \"system_u:object_r:virt_var_lib_t:s0\"\n\
        file = \"system_u:object_r:container_file_t:s0\"\n\
        ro_file=\"system_u:object_r:container_ro_file_t:s0\"\n";

    fn options(kind: &str, level: &str) -> SelinuxOptions {
        SelinuxOptions { kind: kind.to_owned(), level: level.to_owned(), ..Default::default() }
    }

    #[test]
    fn labels_are_read_and_written() {
        let label = Label::parse("system_u:system_r:container_t:s0-s0:c0.c1023\n").unwrap();
        assert_eq!(label.level, "s0-s0:c0.c1023");
        assert_eq!(label.sensitivity(), "s0");
        assert_eq!(label.to_string(), "system_u:system_r:container_t:s0-s0:c0.c1023");
        assert_eq!(Label::parse("a:b:c").unwrap().to_string(), "a:b:c");
        for text in ["", "a:b", "a::c:s0", "kernel"] {
            assert_eq!(Label::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_policy_without_containers_has_no_defaults() {
        let defaults = Defaults::parse(FILE).unwrap();
        assert_eq!(defaults.process.kind, "container_t");
        assert_eq!(defaults.file.kind, "container_file_t");
        assert_eq!(Defaults::parse("process = \"a:b:c:s0\"\n"), None);
        assert_eq!(Defaults::parse(&FILE.replace("container_file_t", "")), None);
    }

    #[test]
    fn the_policy_is_that_of_the_configuration() {
        for (config, policy) in [
            ("SELINUX=enforcing\nSELINUXTYPE=mls\n", "mls"),
            ("# SELINUXTYPE=x\n", "targeted"),
            ("SELINUXTYPE=../x\n", "targeted"),
        ] {
            let file = format!("/etc/selinux/{policy}/contexts/lxc_contexts");
            assert_eq!(Defaults::file(config), Path::new(&file));
        }
    }

    #[test]
    fn what_is_asked_for_goes_before_the_pods_and_that_before_the_nodes() {
        let defaults = Defaults::parse(FILE).unwrap();
        let of = |pod: &SelinuxOptions, container: &SelinuxOptions, privileged| {
            let labels = labels(&defaults, "s0:c1,c2", pod, container, privileged);
            (labels.process.to_string(), labels.mount.to_string())
        };
        let nothing = SelinuxOptions::default();
        let file = |level: &str| format!("system_u:object_r:container_file_t:{level}");
        let process = |kind: &str, level: &str| format!("system_u:system_r:{kind}:{level}");
        for (pod, container, privileged, expected) in [
            (&nothing, &nothing, false, (process("container_t", "s0:c1,c2"), file("s0:c1,c2"))),
            (&nothing, &nothing, true, (process("spc_t", "s0"), file("s0:c1,c2"))),
            (
                &options("pod_t", "s0:c7"),
                &nothing,
                false,
                (process("pod_t", "s0:c7"), file("s0:c7")),
            ),
            (
                &options("pod_t", "s0:c7"),
                &options("own_t", ""),
                true,
                (process("own_t", "s0:c7"), file("s0:c7")),
            ),
            (
                &nothing,
                &options("", "s0:c3,c4"),
                false,
                (process("container_t", "s0:c3,c4"), file("s0:c3,c4")),
            ),
        ] {
            assert_eq!(of(pod, container, privileged), expected);
        }
        let asked =
            SelinuxOptions { user: "u".to_owned(), role: "r".to_owned(), ..nothing.clone() };
        assert_eq!(
            of(&nothing, &asked, false),
            (
                "u:r:container_t:s0:c1,c2".to_owned(),
                "u:object_r:container_file_t:s0:c1,c2".to_owned()
            )
        );
    }
}
