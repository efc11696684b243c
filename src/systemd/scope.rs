//! Scopes: made around a process, given limits, and ended.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{sleep, timeout};
use tracing::{debug, warn};
use zbus::Variant;

use super::{Error, Systemd, slice};

/// How long systemd may take to make a scope: a little less than the kubelet waits.
const START_LIMIT: Duration = Duration::from_secs(100);

/// After so long without a signal it is looked where the process is.
const LOOK: Duration = Duration::from_secs(1);

/// How long the end of a scope is waited for before it becomes a task of its own.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// The pauses between attempts: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(30)];

/// The longest pause while somebody waits for the outcome.
const SHORT: Duration = Duration::from_secs(1);

/// The errors that tell of units, by their names on D-Bus.
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const NOT_LOADED: &str = "org.freedesktop.systemd1.UnitNotLoaded";

/// A scope that is to be.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Its name, with `.scope`.
    pub name: String,
    /// The name of the slice that it lies in.
    pub slice: String,
    /// What people see in `systemctl status`.
    pub description: String,
    /// The process that it begins with.
    pub pid: u32,
}

impl Scope {
    /// Where its cgroup will be.
    ///
    /// # Errors
    /// When its slice has no name of a slice.
    pub fn path(&self) -> Result<PathBuf, Error> {
        Ok(slice::path_of(&self.slice)?.join(&self.name))
    }
}

/// Limits as systemd has them, which it would otherwise reset to its own when its
/// configuration is loaded anew. None is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// `cpu.weight`.
    pub cpu_weight: Option<u64>,
    /// Microseconds in each second that processors may be used; `u64::MAX` for no limit.
    pub cpu_quota: Option<u64>,
    /// Microseconds of the period that the quota is counted over.
    pub cpu_period: Option<u64>,
    /// `memory.max` in bytes; `u64::MAX` for no limit.
    pub memory_max: Option<u64>,
    /// `memory.low` in bytes.
    pub memory_low: Option<u64>,
    /// `memory.swap.max` in bytes; `u64::MAX` for no limit.
    pub memory_swap_max: Option<u64>,
    /// `pids.max`; `u64::MAX` for no limit.
    pub tasks_max: Option<u64>,
}

impl Limits {
    fn properties(&self) -> Vec<(&'static str, Variant<'static>)> {
        let all = [
            ("CPUWeight", self.cpu_weight),
            ("CPUQuotaPerSecUSec", self.cpu_quota),
            ("CPUQuotaPeriodUSec", self.cpu_period),
            ("MemoryMax", self.memory_max),
            ("MemoryLow", self.memory_low),
            ("MemorySwapMax", self.memory_swap_max),
            ("TasksMax", self.tasks_max),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, Variant::from(value?)))).collect()
    }
}

impl Systemd {
    /// Makes a scope around a process and returns when the process is in it. A connection that
    /// is lost meanwhile is made again; a scope of that name that is left from before is ended.
    ///
    /// # Errors
    /// When systemd refuses, or does not come to it in time.
    pub async fn start_scope(&self, scope: &Scope) -> Result<(), Error> {
        let starting = async {
            let mut pause = PAUSES[0];
            loop {
                match self.try_to_start(scope).await {
                    Err(error) if error.is_passing() => {
                        debug!(scope = scope.name, %error, "the scope is tried again");
                    }
                    Err(error) if error.is(UNIT_EXISTS) => {
                        debug!(scope = scope.name, "a scope of this name is left and is ended");
                        self.end(&scope.name).await?;
                    }
                    result => return result,
                }
                sleep(pause).await;
                pause = (pause * 2).min(SHORT);
            }
        };
        timeout(START_LIMIT, starting).await.unwrap_or(Err(Error::TooSlow(START_LIMIT)))?;
        let (wanted, found) = (scope.path()?, cgroup_of(scope.pid).await);
        if found.as_deref() == Some(&*wanted) {
            return Ok(());
        }
        Err(Error::Misplaced {
            pid: scope.pid,
            found: found.map_or("none".to_owned(), |path| path.display().to_string()),
            wanted: wanted.display().to_string(),
        })
    }

    async fn try_to_start(&self, scope: &Scope) -> Result<(), Error> {
        let wanted = scope.path()?;
        let link = self.bus.link().await?;
        let mut ended = link.end_of_job(&scope.name);
        let properties: Vec<(&str, Variant<'_>)> = vec![
            ("Description", Variant::from(scope.description.as_str())),
            ("Slice", Variant::from(scope.slice.as_str())),
            ("PIDs", Variant::from(vec![scope.pid])),
            // All controllers, and nobody else makes cgroups in it.
            ("Delegate", Variant::from(true)),
            // A node that goes down ends its pods by way of the kubelet, or with everything.
            ("DefaultDependencies", Variant::from(false)),
            // Also one that has failed goes away by itself.
            ("CollectMode", Variant::from("inactive-or-failed")),
            // Pods have limits from the kubelet, and not the default ones of services.
            ("TasksMax", Variant::from(u64::MAX)),
        ];
        let others: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
        let body = (scope.name.as_str(), "fail", properties, others);
        match link.call("StartTransientUnit", &body).await {
            // An earlier attempt whose answer was lost.
            Err(error) if error.is(UNIT_EXISTS) => {
                link.forget_job(&scope.name);
                return match cgroup_of(scope.pid).await == Some(wanted) {
                    true => Ok(()),
                    false => Err(error),
                };
            }
            result => result.inspect_err(|_| link.forget_job(&scope.name))?,
        }
        loop {
            match timeout(LOOK, &mut ended).await {
                Ok(Ok(result)) if result == "done" => return Ok(()),
                Ok(Ok(result)) => return Err(Error::Job { unit: scope.name.clone(), result }),
                Ok(Err(_)) => return Err(Error::Unreachable("the connection was lost".to_owned())),
                Err(_) if cgroup_of(scope.pid).await.as_ref() == Some(&wanted) => {
                    link.forget_job(&scope.name);
                    return Ok(());
                }
                Err(_) => {}
            }
        }
    }

    /// Ends a scope in which nothing runs any more. One that is not there is as good. What
    /// systemd does not come to is done beside everything else.
    pub async fn stop_scope(&self, name: &str) {
        match timeout(STOP_LIMIT, self.end(name)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.stop_later(name, error),
            Err(_) => self.stop_later(name, Error::TooSlow(STOP_LIMIT)),
        }
    }

    fn stop_later(&self, name: &str, error: Error) {
        warn!(scope = name, %error, "the scope is not ended yet; this is tried again");
        let (systemd, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            let mut pause = PAUSES[0];
            loop {
                sleep(pause).await;
                pause = (pause * 2).min(PAUSES[1]);
                if matches!(timeout(START_LIMIT, systemd.end(&name)).await, Ok(Ok(()))) {
                    return;
                }
            }
        });
    }

    /// Stops the unit, and forgets that it has failed.
    async fn end(&self, name: &str) -> Result<(), Error> {
        let link = self.bus.link().await?;
        let ended = link.end_of_job(name);
        match link.call("StopUnit", &(name, "replace")).await {
            Ok(()) => {
                if timeout(STOP_LIMIT, ended).await.is_err() {
                    link.forget_job(name);
                }
            }
            Err(error) if error.is(NO_SUCH_UNIT) || error.is(NOT_LOADED) => {
                link.forget_job(name);
                return Ok(());
            }
            Err(error) => {
                link.forget_job(name);
                return Err(error);
            }
        }
        match link.call("ResetFailedUnit", &(name,)).await {
            Err(error) if error.is(NO_SUCH_UNIT) || error.is(NOT_LOADED) => Ok(()),
            result => result,
        }
    }

    /// Tells systemd what limits a scope has from now on. They are gone with the scope.
    ///
    /// # Errors
    /// When systemd refuses them, or cannot be asked.
    pub async fn limit_scope(&self, name: &str, limits: &Limits) -> Result<(), Error> {
        let properties = limits.properties();
        if properties.is_empty() {
            return Ok(());
        }
        let setting = async {
            let link = self.bus.link().await?;
            link.call("SetUnitProperties", &(name, true, properties)).await
        };
        timeout(STOP_LIMIT, setting).await.unwrap_or(Err(Error::TooSlow(STOP_LIMIT)))
    }
}

/// The cgroup of a process on the unified hierarchy; none of one that is gone.
async fn cgroup_of(pid: u32) -> Option<PathBuf> {
    let reading =
        tokio::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("cgroup"));
    let text = reading.await.ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use zbus::Variant;

    use super::Limits;

    #[test]
    fn only_limits_that_are_named_are_told() {
        assert!(Limits::default().properties().is_empty());
        let limits = Limits { tasks_max: Some(u64::MAX), ..Limits::default() };
        assert_eq!(limits.properties(), [("TasksMax", Variant::from(u64::MAX))]);
    }
}
