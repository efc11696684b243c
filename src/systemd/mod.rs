//! systemd, as far as pods need it: scopes in slices, over D-Bus.
//!
//! A pod has one scope, which begins with the pod's monitor and is delegated: what lies below
//! it is Criquet's own business, and systemd is not asked when a container starts. Entry point:
//! [`Systemd`]. The module knows units and their names, and nothing of pods.

mod bus;
mod error;
mod scope;
pub mod slice;

use std::{fs, path::Path, sync::Arc, time::Duration};

use tokio::time::timeout;
use zbus::{OwnedObjectPath, OwnedVariant};

pub use error::Error;
pub use scope::{Limits, Scope};

use bus::Bus;

/// The interface of scopes.
const SCOPE: &str = "org.freedesktop.systemd1.Scope";

/// How long the version of systemd is waited for.
const VERSION_LIMIT: Duration = Duration::from_secs(5);

/// The service manager of this machine. Cheap to clone; connects when it is needed, and again
/// when the connection was lost.
#[derive(Debug, Clone)]
pub struct Systemd {
    bus: Arc<Bus>,
}

/// A unit as systemd lists it (`ListUnitsByPatterns`): its name, and what does not matter here.
type Listed =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

impl Systemd {
    /// The one that runs this machine, if one does: the first process is systemd
    /// (`sd_booted(3)` looks for the same directory). Asks nobody.
    pub fn of_this_machine() -> Option<Self> {
        let name = fs::read_to_string("/proc/1/comm").unwrap_or_default();
        let runs = name.trim() == "systemd" && Path::new("/run/systemd/system").is_dir();
        runs.then(|| Self { bus: Arc::new(Bus::new(None)) })
    }

    /// One that is reached over another bus than the system's, by its D-Bus address.
    #[cfg(test)]
    fn at(address: &str) -> Self {
        Self { bus: Arc::new(Bus::new(Some(address.to_owned()))) }
    }

    /// Its version, such as `257.8`.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn version(&self) -> Result<String, Error> {
        let asking = async {
            let link = self.bus.link().await?;
            let value: OwnedVariant = link.property("Version").await?;
            String::try_from(value).map_err(|error| Error::Answer(error.to_string()))
        };
        timeout(VERSION_LIMIT, asking).await.unwrap_or(Err(Error::TooSlow(VERSION_LIMIT)))
    }

    /// The names of the units that match a pattern (`glob(7)`), in whatever state.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn units(&self, pattern: &str) -> Result<Vec<String>, Error> {
        let link = self.bus.link().await?;
        let all_states: Vec<&str> = Vec::new();
        let wanted = (all_states, vec![pattern]);
        let units: Vec<Listed> = link.ask("ListUnitsByPatterns", &wanted).await?;
        Ok(units.into_iter().map(|unit| unit.0).collect())
    }

    /// Whether a scope is known to have no process: it has no cgroup, or an empty one.
    pub async fn is_empty(&self, scope: &str) -> bool {
        let Ok(link) = self.bus.link().await else { return false };
        let Ok(unit) = link.ask::<_, OwnedObjectPath>("GetUnit", &(scope,)).await else {
            return false;
        };
        let Ok(value) = link.property_of(&unit, SCOPE, "ControlGroup").await else { return false };
        let Ok(path) = String::try_from(value) else { return false };
        if path.is_empty() {
            return true;
        }
        let events = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
        match tokio::fs::read_to_string(events.join("cgroup.events")).await {
            Ok(text) => text.lines().any(|line| line == "populated 0"),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }
}

#[cfg(test)]
mod tests;
