//! SELinux: labels of pods and containers, on nodes whose kernel has it.
//!
//! Each pod has a level of its own, which is recorded with it and kept from others until it is
//! removed. Without SELinux in the kernel, options mean nothing and are passed over; with it, and
//! without what labels need, pods that ask for labels are refused.

pub(in crate::pod) mod levels;
mod relabel;

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

use tracing::{info, warn};

use super::{
    error::{During, Error, Reason},
    options::Options,
    sandbox::{Sandbox, SandboxRecord},
};
use crate::{
    spec::{
        self,
        config::{ContainerConfig, SandboxConfig, SelinuxOptions},
        selinux::{Defaults, Label, Labels, labels},
    },
    telemetry::Operation,
};

use levels::{Lease, Levels};

/// Where the kernel shows SELinux.
const KERNEL: &str = "/sys/fs/selinux";

/// What this node does with SELinux.
#[derive(Debug)]
pub(in crate::pod) struct Selinux {
    state: State,
    levels: Levels,
}

#[derive(Debug)]
enum State {
    /// The kernel has it not.
    Absent,
    /// It has, and containers get no labels, for this reason.
    Without(String),
    /// They get labels made from these.
    Labels(Box<Defaults>),
}

impl Selinux {
    /// Looks at the kernel and at its policy.
    pub(in crate::pod) fn of_this_node(options: &Options) -> Self {
        let state = match Path::new(KERNEL).join("enforce").exists() {
            false => State::Absent,
            true if !options.selinux => {
                State::Without("security.selinux of the configuration is false".to_owned())
            }
            true => match defaults() {
                Ok(defaults) => {
                    info!(process = %defaults.process, file = %defaults.file, "SELinux labels");
                    State::Labels(Box::new(defaults))
                }
                Err(reason) => {
                    warn!(reason, "containers get no SELinux labels");
                    State::Without(reason)
                }
            },
        };
        Self { state, levels: Levels::new(options.selinux_category_range) }
    }

    /// The level of a new pod, where it gets one of its own.
    ///
    /// # Errors
    /// Options that this node cannot fulfil; no level that is free.
    pub(in crate::pod) fn level_for(
        &self,
        config: &SandboxConfig,
    ) -> Result<Option<(String, Option<Lease>)>, Error> {
        let asked = &config.security.selinux;
        let Some(defaults) = self.defaults(asked)? else { return Ok(None) };
        if !asked.level.is_empty() {
            let lease = self.levels.keep(&asked.level);
            check(&labels(defaults, &asked.level, asked, &SelinuxOptions::default(), false))?;
            return Ok(Some((asked.level.clone(), lease)));
        }
        if defaults.process.level.is_empty() {
            return Ok(Some((String::new(), None)));
        }
        let given = self.levels.allocate(defaults.process.sensitivity(), random()?);
        let (level, lease) = given.ok_or(Reason::NoLevel)?;
        check(&labels(defaults, &level, asked, &SelinuxOptions::default(), false))?;
        Ok(Some((level, Some(lease))))
    }

    /// Keeps the level of a pod of an earlier daemon.
    pub(in crate::pod) fn keep(&self, record: &SandboxRecord) -> Option<Lease> {
        self.levels.keep(record.selinux_level.as_deref()?)
    }

    /// The label of the pod's own files and memory.
    pub(in crate::pod) fn mount_label(&self, record: &SandboxRecord) -> Option<String> {
        let State::Labels(defaults) = &self.state else { return None };
        let level = record.selinux_level.as_deref()?;
        let asked = &record.config.security.selinux;
        let labels = labels(defaults, level, asked, &SelinuxOptions::default(), false);
        Some(labels.mount.to_string())
    }

    /// The labels of a container; none where it has none.
    ///
    /// # Errors
    /// Options that this node cannot fulfil.
    pub(in crate::pod) fn labels_of(
        &self,
        sandbox: &SandboxRecord,
        config: &ContainerConfig,
    ) -> Result<Option<Labels>, Error> {
        let asked = &config.security.selinux;
        let Some(defaults) = self.defaults(asked)? else { return Ok(None) };
        // Pods of a release without labels have no level.
        let level = sandbox.selinux_level.as_deref().unwrap_or_default();
        let privileged = config.security.privileged;
        let labels = labels(defaults, level, &sandbox.config.security.selinux, asked, privileged);
        check(&labels)?;
        Ok(Some(labels))
    }

    /// Gives the volumes of a container for which that is asked the label of its files. Waits
    /// for paths of users.
    ///
    /// # Errors
    /// A place that belongs to the node; what the kernel refuses; the end of the sandbox.
    pub(in crate::pod) fn relabel(
        &self,
        labels: Option<&Labels>,
        config: &ContainerConfig,
        options: &Options,
        sandbox: &Sandbox,
        operation: &Operation,
    ) -> Result<(), Error> {
        let asked = |mount: &&spec::config::Mount| mount.selinux_relabel && mount.image.is_none();
        let mut volumes = config.mounts.iter().filter(asked).peekable();
        let (State::Without(reason), None) = (&self.state, labels) else {
            let Some(labels) = labels else { return Ok(()) };
            let (label, own) = (labels.mount.to_string(), [&*options.root, &*options.state]);
            return volumes
                .try_for_each(|mount| relabel::relabel(mount, &label, &own, sandbox, operation));
        };
        match volumes.peek() {
            Some(_) => Err(Reason::NoLabels(reason.clone()).into()),
            None => Ok(()),
        }
    }

    fn defaults(&self, asked: &SelinuxOptions) -> Result<Option<&Defaults>, Error> {
        match &self.state {
            State::Labels(defaults) => Ok(Some(defaults)),
            State::Without(reason) if *asked != SelinuxOptions::default() => {
                Err(Reason::NoLabels(reason.clone()).into())
            }
            State::Absent | State::Without(_) => Ok(None),
        }
    }
}

/// The labels that the node's policy gives to containers, or why there are none.
fn defaults() -> Result<Defaults, String> {
    let file = Defaults::file(&fs::read_to_string("/etc/selinux/config").unwrap_or_default());
    let hint = "install the policy for containers (container-selinux)";
    let text = fs::read_to_string(&file)
        .map_err(|error| format!("cannot read {}: {error}; {hint}", file.display()))?;
    Defaults::parse(&text)
        .ok_or_else(|| format!("{} names no labels for containers; {hint}", file.display()))
}

/// Whether the policy knows the labels.
fn check(labels: &Labels) -> Result<(), Error> {
    check_label(&labels.process)?;
    check_label(&labels.mount)
}

/// The kernel takes a label that its policy allows at this file, and refuses others.
fn check_label(label: &Label) -> Result<(), Error> {
    let path = Path::new(KERNEL).join("context");
    let mut file = File::options().write(true).open(&path).during("open", &path)?;
    match file.write_all(label.to_string().as_bytes()) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let reason = format!(
                "{label} is no label of this node's policy; ask for a user, role, type and level \
                 that it has"
            );
            Err(spec::Error::invalid("selinux_options", reason).into())
        }
        result => result.during("ask for a label at", &path),
    }
}

fn random() -> Result<u64, Error> {
    let path = Path::new("/dev/urandom");
    let read = || {
        let mut bytes = [0; 8];
        File::open(path)?.read_exact(&mut bytes)?;
        Ok::<_, io::Error>(u64::from_ne_bytes(bytes))
    };
    read().during("read", path)
}

#[cfg(test)]
mod tests {
    use super::{Levels, Selinux, State};
    use crate::{
        kind::Kind,
        spec::config::{SandboxConfig, SelinuxOptions},
    };

    fn asks() -> SandboxConfig {
        let mut config = SandboxConfig::default();
        config.security.selinux = SelinuxOptions { kind: "x_t".to_owned(), ..Default::default() };
        config
    }

    #[test]
    fn options_are_passed_over_without_selinux_and_refused_without_labels() {
        let node = Selinux { state: State::Absent, levels: Levels::new(4) };
        assert!(node.level_for(&asks()).unwrap().is_none());
        let node = Selinux { state: State::Without("a reason".to_owned()), levels: Levels::new(4) };
        assert!(node.level_for(&SandboxConfig::default()).unwrap().is_none());
        let error = node.level_for(&asks()).unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition);
        assert!(error.to_string().contains("a reason"), "{error}");
    }
}
