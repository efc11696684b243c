//! What sandboxes and containers have in common.

use super::super::v1;
use crate::spec::{
    Error,
    config::{NamespaceMode, Namespaces, Profile, Resources, SelinuxOptions},
};

/// A namespace mode by its number.
fn mode(field: &'static str, number: i32) -> Result<NamespaceMode, Error> {
    match v1::NamespaceMode::try_from(number) {
        Ok(v1::NamespaceMode::Pod) => Ok(NamespaceMode::Pod),
        Ok(v1::NamespaceMode::Container) => Ok(NamespaceMode::Container),
        Ok(v1::NamespaceMode::Node) => Ok(NamespaceMode::Node),
        Ok(v1::NamespaceMode::Target) => Ok(NamespaceMode::Target),
        Err(_) => Err(Error::invalid(field, format!("{number} is no mode; use 0 to 3"))),
    }
}

fn mode_out(mode: NamespaceMode) -> i32 {
    let mode = match mode {
        NamespaceMode::Pod => v1::NamespaceMode::Pod,
        NamespaceMode::Container => v1::NamespaceMode::Container,
        NamespaceMode::Node => v1::NamespaceMode::Node,
        NamespaceMode::Target => v1::NamespaceMode::Target,
    };
    mode.into()
}

pub(super) fn namespaces(options: Option<v1::NamespaceOption>) -> Result<Namespaces, Error> {
    let options = options.unwrap_or_default();
    if let Some(users) = &options.userns_options {
        match mode("namespace_options.userns_options.mode", users.mode)? {
            NamespaceMode::Node => {}
            NamespaceMode::Pod => {
                let reason = "user namespaces; set hostUsers: true in the pod, or leave it out";
                return Err(Error::unsupported("namespace_options.userns_options", reason));
            }
            _ => {
                let reason = "must be POD or NODE";
                return Err(Error::invalid("namespace_options.userns_options.mode", reason));
            }
        }
    }
    Ok(Namespaces {
        network: mode("namespace_options.network", options.network)?,
        pid: mode("namespace_options.pid", options.pid)?,
        ipc: mode("namespace_options.ipc", options.ipc)?,
        target: options.target_id,
    })
}

pub(super) fn namespaces_out(namespaces: &Namespaces) -> v1::NamespaceOption {
    v1::NamespaceOption {
        network: mode_out(namespaces.network),
        pid: mode_out(namespaces.pid),
        ipc: mode_out(namespaces.ipc),
        target_id: namespaces.target.clone(),
        userns_options: None,
    }
}

pub(super) fn selinux(options: Option<v1::SeLinuxOption>) -> SelinuxOptions {
    let v1::SeLinuxOption { user, role, r#type, level } = options.unwrap_or_default();
    SelinuxOptions { user, role, kind: r#type, level }
}

pub(super) fn profile(
    field: &'static str,
    profile: Option<v1::SecurityProfile>,
) -> Result<Option<Profile>, Error> {
    use v1::security_profile::ProfileType;
    let Some(profile) = profile else { return Ok(None) };
    match ProfileType::try_from(profile.profile_type) {
        Ok(ProfileType::RuntimeDefault) => Ok(Some(Profile::RuntimeDefault)),
        Ok(ProfileType::Unconfined) => Ok(Some(Profile::Unconfined)),
        Ok(ProfileType::Localhost) if profile.localhost_ref.is_empty() => {
            Err(Error::invalid(field, "Localhost needs a localhost_ref"))
        }
        Ok(ProfileType::Localhost) => Ok(Some(Profile::Localhost(profile.localhost_ref))),
        Err(_) => {
            Err(Error::invalid(field, format!("{} is no profile type", profile.profile_type)))
        }
    }
}

/// A profile in the old form: `runtime/default`, `unconfined`, `localhost/NAME`.
pub(super) fn profile_by_path(field: &'static str, path: &str) -> Result<Option<Profile>, Error> {
    match path {
        "" => Ok(None),
        "runtime/default" | "docker/default" => Ok(Some(Profile::RuntimeDefault)),
        "unconfined" => Ok(Some(Profile::Unconfined)),
        other => match other.strip_prefix("localhost/") {
            Some(name) => Ok(Some(Profile::Localhost(name.to_owned()))),
            None => {
                let reason =
                    format!("{other:?} must be runtime/default, unconfined or localhost/NAME");
                Err(Error::invalid(field, reason))
            }
        },
    }
}

/// A user or group id: not negative, and within what the kernel and images use.
pub(super) fn id(field: &'static str, value: i64) -> Result<u32, Error> {
    match u32::try_from(value) {
        Ok(id) if id <= i32::MAX as u32 => Ok(id),
        _ => Err(Error::invalid(field, format!("{value} must be between 0 and 2147483647"))),
    }
}

/// Limits of a container.
pub fn resources(resources: v1::LinuxContainerResources) -> Resources {
    Resources {
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_shares: resources.cpu_shares,
        memory_limit: resources.memory_limit_in_bytes,
        oom_score_adj: resources.oom_score_adj,
        cpuset_cpus: resources.cpuset_cpus,
        cpuset_mems: resources.cpuset_mems,
        hugepage_limits: resources
            .hugepage_limits
            .into_iter()
            .map(|limit| (limit.page_size, limit.limit))
            .collect(),
        unified: resources.unified.into_iter().collect(),
        memory_swap_limit: resources.memory_swap_limit_in_bytes,
    }
}

/// Limits for a status.
pub fn resources_out(resources: &Resources) -> v1::LinuxContainerResources {
    v1::LinuxContainerResources {
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpu_shares: resources.cpu_shares,
        memory_limit_in_bytes: resources.memory_limit,
        oom_score_adj: resources.oom_score_adj,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        hugepage_limits: resources
            .hugepage_limits
            .iter()
            .map(|(page_size, limit)| v1::HugepageLimit {
                page_size: page_size.clone(),
                limit: *limit,
            })
            .collect(),
        unified: resources.unified.clone().into_iter().collect(),
        memory_swap_limit_in_bytes: resources.memory_swap_limit,
    }
}

#[cfg(test)]
mod tests {
    use super::{id, namespaces, profile_by_path};
    use crate::{cri::v1, kind::Kind, spec::config::Profile};

    #[test]
    fn ids_do_not_wrap() {
        assert_eq!(id("run_as_user", 1000).unwrap(), 1000);
        for value in [-1, 1 << 31, 1 << 32] {
            assert!(id("run_as_user", value).is_err(), "{value}");
        }
    }

    #[test]
    fn user_namespaces_are_refused_by_name() {
        let with = |mode: i32| v1::NamespaceOption {
            userns_options: Some(v1::UserNamespace { mode, ..Default::default() }),
            ..Default::default()
        };
        assert!(namespaces(Some(with(2))).is_ok());
        let error = namespaces(Some(with(0))).unwrap_err();
        assert_eq!(error.kind(), Kind::Unimplemented);
        assert!(error.to_string().contains("userns_options"));
        assert_eq!(namespaces(Some(with(1))).unwrap_err().kind(), Kind::InvalidArgument);
        let mut wrong = with(2);
        wrong.pid = 9;
        assert!(namespaces(Some(wrong)).is_err());
    }

    #[test]
    fn old_profile_paths() {
        let parse = |path| profile_by_path("seccomp_profile_path", path);
        assert_eq!(parse("runtime/default").unwrap(), Some(Profile::RuntimeDefault));
        let local = Profile::Localhost("/a.json".to_owned());
        assert_eq!(parse("localhost//a.json").unwrap(), Some(local));
        assert!(parse("strange").is_err());
    }
}
