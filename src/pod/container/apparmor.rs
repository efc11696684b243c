//! AppArmor profiles of containers.

use std::{fs, path::Path};

use crate::pod::error::{During, Error};
use crate::spec::{
    self,
    config::{ContainerConfig, Profile},
};

/// The AppArmor profile to apply; none for unconfined.
pub(in crate::pod) fn apparmor_profile(config: &ContainerConfig) -> Result<Option<String>, Error> {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.trim() == "Y");
    let field = "security_context.apparmor";
    match &config.security.apparmor {
        _ if config.security.privileged => Ok(None),
        None | Some(Profile::Unconfined) => Ok(None),
        // Without AppArmor there is nothing that a default could be.
        Some(Profile::RuntimeDefault) if !enabled => Ok(None),
        Some(Profile::RuntimeDefault) => {
            let reason = "this node enforces AppArmor, and there is no default profile yet; \
                          use Localhost with a loaded profile, or Unconfined";
            Err(spec::Error::unsupported(field, reason).into())
        }
        Some(Profile::Localhost(profile)) => {
            if !enabled {
                let reason =
                    format!("the profile {profile:?} is asked for, and this node has no AppArmor");
                return Err(spec::Error::invalid(field, reason).into());
            }
            check_loaded(profile)?;
            Ok(Some(profile.clone()))
        }
    }
}

/// A profile that is not loaded would let the container run without any, or not at all.
fn check_loaded(profile: &str) -> Result<(), Error> {
    let path = Path::new("/sys/kernel/security/apparmor/profiles");
    let loaded = fs::read_to_string(path).during("read", path)?;
    let name_of = |line: &str| line.rsplit_once(" (").map(|(name, _)| name.to_owned());
    if loaded.lines().filter_map(name_of).any(|name| name == profile) {
        return Ok(());
    }
    let reason = format!("profile {profile:?} is not loaded; load it with apparmor_parser");
    Err(spec::Error::invalid("security_context.apparmor", reason).into())
}
