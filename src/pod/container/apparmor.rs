//! AppArmor profiles of containers.
//!
//! A container that says nothing gets the node's default, as with the other runtimes, and one that
//! is privileged does not, unless it names a profile. The default that is made here is loaded when
//! the daemon starts, and again where somebody has removed it before a process needs it.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use oci_spec::runtime::Spec;
use tracing::{info, warn};

use crate::{
    kind::chain,
    pod::{
        Pods, blocking,
        error::{During, Error},
    },
    runtime::{self, apparmor},
    spec::{
        self,
        config::{ContainerSecurity, Profile},
    },
};

const FIELD: &str = "security_context.apparmor";

/// Where the kernel shows its profiles, for messages.
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

/// What this node does with AppArmor.
pub(in crate::pod) struct AppArmor {
    enabled: bool,
    /// The default profile; none where containers have none by default.
    default: Option<String>,
    // Held while the profile is loaded: one parser for all who need it.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether this daemon has loaded it: what another release has left may have other rules.
    is_own: bool,
    /// The revision of the kernel's profiles at which the default was seen among them.
    seen: Option<u64>,
    /// Why there is no default profile, as it was told last.
    trouble: Option<String>,
}

impl State {
    fn provide(&mut self, default: &str) -> Result<(), Error> {
        if default == apparmor::DEFAULT && !self.is_own {
            load(default)?;
            self.is_own = true;
        }
        // Before the look at the profiles: what changes meanwhile is looked at again.
        let revision = apparmor::revision().during("read", Path::new(PROFILES))?;
        if self.seen == Some(revision) {
            return Ok(());
        }
        self.seen = None;
        if !is_loaded(default)? {
            return load(default);
        }
        self.seen = Some(revision);
        Ok(())
    }
}

impl AppArmor {
    /// `default` is the name of the default profile, or `unconfined`.
    pub(in crate::pod) fn new(default: &str) -> Self {
        Self {
            enabled: apparmor::is_enabled(),
            default: (default != "unconfined").then(|| default.to_owned()),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing has changed since the default was seen. Costs the read of one number.
    fn is_current(&self) -> bool {
        // Whoever loads it holds the lock for as long as that takes.
        let Ok(state) = self.state.try_lock() else { return false };
        state.seen.is_some() && state.seen == apparmor::revision().ok()
    }

    /// Makes sure that the default profile is loaded. Waits for the program that loads it.
    ///
    /// # Errors
    /// Where it is not loaded and cannot be.
    fn provide(&self) -> Result<(), Error> {
        let Some(default) = self.default.as_deref().filter(|_| self.enabled) else { return Ok(()) };
        let mut state = self.state();
        let outcome = state.provide(default);
        let trouble = outcome.as_ref().err().map(|error| chain(error));
        if let Some(error) = trouble.as_ref().filter(|_| trouble != state.trouble) {
            warn!(error, "containers that name no AppArmor profile run without one");
        }
        state.trouble = trouble;
        outcome
    }

    /// The profile of a container; none for unconfined. May wait for the program that loads it.
    ///
    /// # Errors
    /// A profile that is asked for and is not loaded.
    pub(in crate::pod) fn profile_of(
        &self,
        security: &ContainerSecurity,
    ) -> Result<Option<String>, Error> {
        match &security.apparmor {
            Some(Profile::Unconfined) => Ok(None),
            Some(Profile::Localhost(profile)) => self.local(profile).map(Some),
            Some(Profile::RuntimeDefault) | None if security.privileged || !self.enabled => {
                // Without AppArmor there is nothing that a default could be.
                Ok(None)
            }
            Some(Profile::RuntimeDefault) => {
                self.provide()?;
                Ok(self.default.clone())
            }
            // Told in the log, and in the status of the daemon.
            None => Ok(self.provide().ok().and_then(|()| self.default.clone())),
        }
    }

    fn local(&self, profile: &str) -> Result<String, Error> {
        // The prefix is from the times of annotations, and clients still send it.
        let name = profile.strip_prefix("localhost/").unwrap_or(profile);
        if !self.enabled {
            let reason =
                format!("the profile {name:?} is asked for, and this node has no AppArmor");
            return Err(spec::Error::invalid(FIELD, reason).into());
        }
        if self.default.as_deref() == Some(name) {
            self.provide()?;
        } else if !is_loaded(name)? {
            let reason = format!(
                "profile {name:?} is not loaded on this node; load it with apparmor_parser"
            );
            return Err(spec::Error::invalid(FIELD, reason).into());
        }
        Ok(name.to_owned())
    }

    /// Why containers that should have the default profile run without; none where they do not,
    /// or need none.
    pub(in crate::pod) fn trouble(&self) -> Option<String> {
        self.state.try_lock().ok().and_then(|state| state.trouble.clone())
    }

    /// The default profile of containers; none without AppArmor.
    pub(in crate::pod) fn default_profile(&self) -> Option<&str> {
        self.default.as_deref().filter(|_| self.enabled)
    }
}

fn is_loaded(profile: &str) -> Result<bool, Error> {
    let loaded = apparmor::profiles().during("read", Path::new(PROFILES))?;
    Ok(loaded.iter().any(|name| name == profile))
}

fn load(profile: &str) -> Result<(), Error> {
    if profile == apparmor::DEFAULT {
        apparmor::load_default()?;
        info!(profile, "AppArmor profile is loaded");
        return Ok(());
    }
    let reason = "the daemon does not make it; load it with apparmor_parser, as at boot";
    let profile = profile.to_owned();
    Err(runtime::Error::Profile { profile, reason: reason.to_owned() }.into())
}

impl Pods {
    /// Loads the default profile beside everything else, so that it is there when it is needed.
    pub(in crate::pod) fn provide_profile(self: &Arc<Self>) {
        let pods = Arc::clone(self);
        // What keeps it from being loaded is told, and looked at again for each container.
        tokio::task::spawn_blocking(move || drop(pods.apparmor().provide()));
    }

    /// Makes sure that the default profile is there for one more process of a container that has
    /// it: somebody may have removed it since.
    ///
    /// # Errors
    /// Where it is gone and cannot be loaded.
    pub(in crate::pod) async fn confirm_profile(
        self: &Arc<Self>,
        spec: &Spec,
    ) -> Result<(), Error> {
        let process = spec.process().as_ref();
        let profile = process.and_then(|process| process.apparmor_profile().as_deref());
        let apparmor = self.apparmor();
        if profile.is_none() || profile != apparmor.default_profile() {
            return Ok(());
        }
        if apparmor.is_current() {
            return Ok(());
        }
        blocking::own_files(move || apparmor.provide()).await
    }
}

#[cfg(test)]
mod tests {
    use super::AppArmor;
    use crate::{
        kind::Kind,
        spec::config::{ContainerSecurity, Profile},
    };

    fn asks(apparmor: Option<Profile>, privileged: bool) -> ContainerSecurity {
        ContainerSecurity { apparmor, privileged, ..ContainerSecurity::default() }
    }

    #[test]
    fn without_apparmor_only_a_profile_by_name_is_refused() {
        let mut node = AppArmor::new("criquet-default");
        node.enabled = false;
        for wish in [None, Some(Profile::RuntimeDefault), Some(Profile::Unconfined)] {
            assert_eq!(node.profile_of(&asks(wish, false)).unwrap(), None);
        }
        for privileged in [false, true] {
            let local = Some(Profile::Localhost("localhost/x".to_owned()));
            let error = node.profile_of(&asks(local, privileged)).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidArgument);
            assert!(error.to_string().contains("\"x\""), "{error}");
        }
    }

    #[test]
    fn privileged_and_unconfined_containers_need_no_profile() {
        let mut node = AppArmor::new("criquet-default");
        node.enabled = true;
        for (wish, privileged) in [
            (None, true),
            (Some(Profile::RuntimeDefault), true),
            (Some(Profile::Unconfined), false),
        ] {
            assert_eq!(node.profile_of(&asks(wish, privileged)).unwrap(), None);
        }
        let mut node = AppArmor::new("unconfined");
        node.enabled = true;
        assert_eq!(node.profile_of(&asks(None, false)).unwrap(), None);
        assert_eq!(node.profile_of(&asks(Some(Profile::RuntimeDefault), false)).unwrap(), None);
    }
}
