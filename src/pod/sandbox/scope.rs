//! Where the cgroup of a pod lies: a directory that Criquet makes, or a scope of systemd.
//!
//! On cgroup v2 the monitor moves to a cgroup of its own below the pod's, so that its costs are
//! the pod's; those of containers lie beside it. A scope begins with the monitor, and a cgroup
//! with processes hands no limits down. Making the scope takes as long as systemd takes, beside
//! the rest of the pod.

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::{Sandbox, SandboxRecord, check};
use crate::{
    kind::chain,
    pod::{
        Pods, blocking,
        error::{Error, Reason},
        id::SandboxId,
    },
    runtime::cgroup::{Cgroup, Version, weight_of_shares},
    spec::config::SandboxConfig,
    systemd::{self, Scope, slice},
};

/// The cgroup of the monitor, below the pod's.
const MONITOR: &str = "monitor";

/// What the names of scopes begin with, before the id of the pod.
const PREFIX: &str = "criquet-";

/// What they end with.
const SUFFIX: &str = ".scope";

/// Where a pod's cgroup is to lie.
pub(super) struct Place {
    /// The cgroup that those of containers lie in.
    pub cgroup: PathBuf,
    /// Whether it goes with the pod.
    pub owns_cgroup: bool,
    /// The slice, where it is a scope.
    pub slice: Option<String>,
    /// The monitor's own cgroup, below the pod's; none on version 1, where the move of a process
    /// waits for all who fork on the node, once for each hierarchy.
    pub monitor: Option<PathBuf>,
}

/// A scope that is being made; dropped, nobody waits for it any more.
pub(super) struct Coming(AbortOnDropHandle<Result<(), Error>>);

impl Coming {
    /// Waits until the scope is there and the monitor in its place.
    pub(super) async fn there(self) -> Result<(), Error> {
        self.0.await.unwrap_or_else(|_| Err(Reason::Aborted.into()))
    }
}

impl SandboxRecord {
    /// The name of its scope; none of one that systemd does not know.
    pub(in crate::pod) fn scope(&self) -> Option<String> {
        self.slice.as_ref().and_then(|_| scope_of(&self.cgroup))
    }

    /// The cgroup of the pod's monitor, where it is in one of its own: in Criquet 0.1 it was in
    /// scopes alone.
    pub(in crate::pod) fn monitor_cgroup(&self) -> Option<PathBuf> {
        let of_scope = || self.slice.as_ref().map(|_| self.cgroup.join(MONITOR));
        self.monitor_cgroup.clone().or_else(of_scope)
    }

    /// The cgroup that stands for the whole pod: the one that its maker limits.
    pub fn pod_cgroup(&self) -> &Path {
        match &self.slice {
            Some(_) if !self.config.cgroup_parent.is_empty() => {
                self.cgroup.parent().unwrap_or(&self.cgroup)
            }
            _ => &self.cgroup,
        }
    }

    /// Whether nobody but Criquet limits that cgroup.
    pub(in crate::pod) fn limits_cgroup(&self) -> bool {
        self.owns_cgroup && self.config.cgroup_parent.is_empty()
    }
}

/// The name of the scope whose cgroup this is.
pub(in crate::pod) fn scope_of(cgroup: &Path) -> Option<String> {
    let name = cgroup.file_name()?.to_str()?;
    (name.starts_with(PREFIX) && name.ends_with(SUFFIX)).then(|| name.to_owned())
}

impl Pods {
    /// Where the cgroup of a pod shall lie.
    ///
    /// # Errors
    /// When the pod names a parent of the other driver, or one that is none.
    pub(super) fn place_of(&self, id: &SandboxId, config: &SandboxConfig) -> Result<Place, Error> {
        check::check_cgroup_parent(&config.cgroup_parent, self.systemd().is_some())?;
        if self.systemd().is_none() {
            let own = || self.options.cgroup_parent.join(id.as_str());
            let given = Some(&config.cgroup_parent).filter(|parent| !parent.is_empty());
            let cgroup = given.map_or_else(own, PathBuf::from);
            // Sandboxes that follow each other have the same parent.
            let monitor = match given {
                None => cgroup.join(MONITOR),
                Some(_) => cgroup.join(format!("{MONITOR}-{id}")),
            };
            let monitor = (self.parts.cgroups == Version::V2).then_some(monitor);
            return Ok(Place { cgroup, owns_cgroup: given.is_none(), slice: None, monitor });
        }
        let slice = match config.cgroup_parent.as_str() {
            "" => slice::for_path(&self.options.cgroup_parent)?,
            given => given.to_owned(),
        };
        let cgroup = slice::path_of(&slice)?.join(format!("{PREFIX}{id}{SUFFIX}"));
        let monitor = Some(cgroup.join(MONITOR));
        Ok(Place { cgroup, owns_cgroup: true, slice: Some(slice), monitor })
    }

    /// Moves the monitor of a pod without a scope to its cgroup. Where the parent lets nobody in
    /// it stays outside: containers are refused there with the reason.
    ///
    /// # Errors
    /// When the move was ended by a panic.
    pub(super) async fn place_monitor(&self, sandbox: &Sandbox) -> Result<(), Error> {
        let (cgroup, pid) = {
            let record = sandbox.record();
            match &record.monitor_cgroup {
                Some(cgroup) if record.slice.is_none() => (cgroup.clone(), record.monitor_pid),
                _ => return Ok(()),
            }
        };
        let version = self.parts.cgroups;
        blocking::own_files(move || {
            let placed = Cgroup::create(version, &cgroup, None).and_then(|made| {
                // The first error says what is wrong; it is empty.
                made.take_in(pid).inspect_err(|_| drop(made.remove()))
            });
            if let Err(error) = placed {
                warn!(error = %chain(&error), "a monitor is not in its pod's cgroup");
            }
            Ok(())
        })
        .await
    }

    /// Begins to make the scope of a pod around its monitor; nothing where it has none.
    pub(super) fn begin_scope(&self, sandbox: &Sandbox) -> Option<Coming> {
        let systemd = self.systemd()?.clone();
        let (scope, cgroup) = {
            let record = sandbox.record();
            let metadata = &record.config.metadata;
            let scope = Scope {
                name: record.scope()?,
                slice: record.slice.clone()?,
                description: format!("Kubernetes pod {}/{}", metadata.namespace, metadata.name),
                pid: record.monitor_pid,
            };
            (scope, record.cgroup.clone())
        };
        let version = self.parts.cgroups;
        let making = async move {
            systemd.start_scope(&scope).await?;
            crate::crash::point("run: scope is made");
            blocking::own_files(move || Ok(set_aside(version, &cgroup, scope.pid)?)).await
        };
        Some(Coming(AbortOnDropHandle::new(tokio::spawn(making))))
    }

    /// Lets systemd forget a scope in which nothing is left. One that systemd has forgotten
    /// already is as good.
    pub(in crate::pod) async fn end_scope(&self, scope: Option<String>) {
        if let (Some(scope), Some(systemd)) = (scope, &self.parts.systemd) {
            systemd.stop_scope(&scope).await;
        }
    }

    /// Tells systemd what limits a scope has, which it would set back otherwise.
    pub(super) async fn tell_limits(&self, scope: &str, limits: &LinuxResources) {
        let Some(systemd) = &self.parts.systemd else { return };
        if let Err(error) = systemd.limit_scope(scope, &limits_of(limits)).await {
            warn!(scope, error = %chain(&error),
                "systemd does not know the limits of the scope, and may set them back");
        }
    }

    /// Ends the scopes of pods that nobody knows, in which nothing runs: a daemon was killed
    /// while it ended them. Those of other daemons are not empty.
    pub(in crate::pod) async fn sweep_scopes(&self) {
        let Some(systemd) = &self.parts.systemd else { return };
        let units = match systemd.units(&format!("{PREFIX}*{SUFFIX}")).await {
            Ok(units) => units,
            Err(error) => {
                return warn!(error = %chain(&error), "scopes that are left are not looked for");
            }
        };
        let known: Vec<_> =
            self.sandboxes().iter().filter_map(|one| one.record().scope()).collect();
        for unit in units.into_iter().filter(|unit| !known.contains(unit)) {
            if systemd.is_empty(&unit).await {
                systemd.stop_scope(&unit).await;
            }
        }
    }
}

/// Moves the monitor to its cgroup and hands the controllers of the scope down to the others.
fn set_aside(version: Version, cgroup: &Path, pid: u32) -> Result<(), crate::runtime::Error> {
    Cgroup::open(version, cgroup)?.set_aside(MONITOR, pid)
}

/// A spec's limits in the units of systemd.
fn limits_of(resources: &LinuxResources) -> systemd::Limits {
    let unlimited = |value: i64| u64::try_from(value).ok().filter(|n| *n > 0).unwrap_or(u64::MAX);
    let mut limits = systemd::Limits::default();
    if let Some(cpu) = resources.cpu() {
        limits.cpu_weight = cpu.shares().filter(|shares| *shares != 0).map(weight_of_shares);
        limits.cpu_period = cpu.period().filter(|period| *period != 0);
        let period = limits.cpu_period.unwrap_or(100_000);
        limits.cpu_quota = cpu.quota().map(|quota| match u64::try_from(quota) {
            Ok(quota) if quota > 0 => quota.saturating_mul(1_000_000).div_ceil(period),
            _ => u64::MAX,
        });
    }
    if let Some(memory) = resources.memory() {
        limits.memory_max = memory.limit().filter(|limit| *limit != 0).map(unlimited);
        limits.memory_low = memory.reservation().filter(|low| *low != 0).map(unlimited);
        limits.memory_swap_max = memory.swap().filter(|swap| *swap != 0).map(|swap| {
            // A spec counts memory and swap together.
            let limit = memory.limit().unwrap_or(0);
            u64::try_from(swap).map_or(u64::MAX, |_| u64::try_from(swap - limit).unwrap_or(0))
        });
    }
    limits.tasks_max = resources.pids().as_ref().map(|pids| unlimited(pids.limit()));
    limits
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use oci_spec::runtime::{
        LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResourcesBuilder,
    };

    use super::{limits_of, scope_of};
    use crate::systemd::Limits;

    #[test]
    fn only_scopes_of_pods_are_ended() {
        let scope = scope_of(Path::new("/criquet.slice/criquet-0a.scope"));
        assert_eq!(scope.as_deref(), Some("criquet-0a.scope"));
        for other in ["/", "/a/session-1.scope", "/a/criquet-0a.service", "/kubepods/pod1"] {
            assert_eq!(scope_of(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn limits_in_units_of_systemd() {
        let cpu = LinuxCpuBuilder::default().shares(1024_u64).quota(50_000).period(200_000_u64);
        let memory = LinuxMemoryBuilder::default().limit(1000).swap(1500).reservation(10);
        let resources = LinuxResourcesBuilder::default()
            .cpu(cpu.build().unwrap())
            .memory(memory.build().unwrap())
            .pids(LinuxPidsBuilder::default().limit(-1).build().unwrap())
            .build()
            .unwrap();
        let limits = Limits {
            cpu_weight: Some(100),
            cpu_quota: Some(250_000),
            cpu_period: Some(200_000),
            memory_max: Some(1000),
            memory_low: Some(10),
            memory_swap_max: Some(500),
            tasks_max: Some(u64::MAX),
        };
        assert_eq!(limits_of(&resources), limits);
        let cpu = LinuxCpuBuilder::default().quota(-1).build().unwrap();
        let memory = LinuxMemoryBuilder::default().limit(-1).swap(-1).build().unwrap();
        let resources = LinuxResourcesBuilder::default().cpu(cpu).memory(memory).build().unwrap();
        let limits = limits_of(&resources);
        assert_eq!(limits.cpu_quota, Some(u64::MAX));
        assert_eq!((limits.memory_max, limits.memory_swap_max), (Some(u64::MAX), Some(u64::MAX)));
    }
}
