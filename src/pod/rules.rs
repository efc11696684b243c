//! What an administrator may decide anew while pods run.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Pods, container::apparmor::AppArmor};

/// It counts for what is made or started from then on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Runtime handlers, besides the unnamed one.
    pub handlers: Vec<String>,
    /// Directories of CDI specifications; of two descriptions of a device that in the later
    /// one counts.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// The AppArmor profile of containers that name none, or `unconfined`.
    pub apparmor_profile: String,
    /// Give containers that say nothing about system calls the default filter.
    pub seccomp_default: bool,
}

/// The rules as they are now; who has them goes on by those that he has.
pub(super) struct Current(
    // A short critical section: a copy of two pointers.
    Mutex<(Arc<Rules>, Arc<AppArmor>)>,
);

impl Current {
    pub(super) fn new(rules: Rules) -> Self {
        let apparmor = Arc::new(AppArmor::new(&rules.apparmor_profile));
        Self(Mutex::new((Arc::new(rules), apparmor)))
    }

    fn get(&self) -> (Arc<Rules>, Arc<AppArmor>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is known of a profile that stays is kept.
    fn set(&self, rules: Rules) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0.apparmor_profile != rules.apparmor_profile {
            current.1 = Arc::new(AppArmor::new(&rules.apparmor_profile));
        }
        current.0 = Arc::new(rules);
    }
}

impl Pods {
    /// The rules as they are now.
    pub fn rules(&self) -> Arc<Rules> {
        self.current.get().0
    }

    /// Goes by other rules from now on; what runs keeps what it has.
    pub fn set_rules(self: &Arc<Self>, rules: Rules) {
        self.current.set(rules);
        self.provide_profile();
    }

    /// What this node does with AppArmor.
    pub(super) fn apparmor(&self) -> Arc<AppArmor> {
        self.current.get().1
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Current, Rules};

    #[test]
    fn a_profile_that_stays_is_not_looked_at_anew() {
        let rules = Rules { apparmor_profile: "one".to_owned(), ..Rules::default() };
        let current = Current::new(rules.clone());
        let before = current.get();
        current.set(Rules { seccomp_default: true, ..rules.clone() });
        let after = current.get();
        assert!(after.0.seccomp_default && !before.0.seccomp_default);
        assert!(Arc::ptr_eq(&before.1, &after.1));
        current.set(Rules { apparmor_profile: "other".to_owned(), ..rules });
        assert!(!Arc::ptr_eq(&before.1, &current.get().1));
    }
}
