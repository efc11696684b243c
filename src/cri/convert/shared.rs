//! What sandboxes and containers have in common.

use super::super::v1;
use crate::spec::{
    Error,
    config::{
        IdRange, NamespaceMode, Namespaces, Profile, Resources, SelinuxOptions, UserNamespace,
    },
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
    let users = match &options.userns_options {
        None => None,
        Some(users) => users_of(users)?,
    };
    Ok(Namespaces {
        users,
        network: mode("namespace_options.network", options.network)?,
        pid: mode("namespace_options.pid", options.pid)?,
        ipc: mode("namespace_options.ipc", options.ipc)?,
        target: options.target_id,
    })
}

fn users_of(users: &v1::UserNamespace) -> Result<Option<UserNamespace>, Error> {
    match mode("namespace_options.userns_options.mode", users.mode)? {
        NamespaceMode::Node if users.uids.is_empty() && users.gids.is_empty() => Ok(None),
        NamespaceMode::Node => {
            let reason = "has mappings in mode NODE, which is the host's user namespace";
            Err(Error::invalid("namespace_options.userns_options", reason))
        }
        NamespaceMode::Pod => Ok(Some(UserNamespace {
            uids: range("namespace_options.userns_options.uids", &users.uids)?,
            gids: range("namespace_options.userns_options.gids", &users.gids)?,
        })),
        _ => {
            let reason = "must be POD or NODE";
            Err(Error::invalid("namespace_options.userns_options.mode", reason))
        }
    }
}

/// The one range that the kubelet gives to a pod.
pub(super) fn range(field: &'static str, mappings: &[v1::IdMapping]) -> Result<IdRange, Error> {
    let [mapping] = mappings else {
        let reason = format!("must be one mapping, and there are {}", mappings.len());
        return Err(Error::invalid(field, reason));
    };
    if mapping.container_id != 0 {
        let reason = format!("must begin with id 0 of the container, not {}", mapping.container_id);
        return Err(Error::invalid(field, reason));
    }
    // The last number is none: it means "no id" to the kernel.
    if mapping.length == 0 || mapping.host_id.checked_add(mapping.length).is_none() {
        let reason = format!(
            "{} ids from {} on are no range of ids; use a length from 1 on",
            mapping.length, mapping.host_id
        );
        return Err(Error::invalid(field, reason));
    }
    Ok(IdRange { host: mapping.host_id, count: mapping.length })
}

fn users_out(users: Option<UserNamespace>) -> v1::UserNamespace {
    let Some(users) = users else {
        return v1::UserNamespace {
            mode: v1::NamespaceMode::Node.into(),
            ..v1::UserNamespace::default()
        };
    };
    let mapping = |range: IdRange| {
        vec![v1::IdMapping { host_id: range.host, container_id: 0, length: range.count }]
    };
    v1::UserNamespace {
        mode: v1::NamespaceMode::Pod.into(),
        uids: mapping(users.uids),
        gids: mapping(users.gids),
    }
}

pub(super) fn namespaces_out(namespaces: &Namespaces) -> v1::NamespaceOption {
    v1::NamespaceOption {
        network: mode_out(namespaces.network),
        pid: mode_out(namespaces.pid),
        ipc: mode_out(namespaces.ipc),
        target_id: namespaces.target.clone(),
        userns_options: Some(users_out(namespaces.users)),
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
    fn a_user_namespace_is_one_range_of_each_kind() {
        let range = |container_id, length| v1::IdMapping { host_id: 100_000, container_id, length };
        let with = |mode: i32, uids: &[v1::IdMapping], gids: &[v1::IdMapping]| {
            namespaces(Some(v1::NamespaceOption {
                userns_options: Some(v1::UserNamespace {
                    mode,
                    uids: uids.to_vec(),
                    gids: gids.to_vec(),
                }),
                ..Default::default()
            }))
        };
        let (pod, node) = (0, 2);
        let one = [range(0, 65_536)];
        let users = with(pod, &one, &one).unwrap().users.unwrap();
        assert_eq!((users.uids.host, users.gids.count), (100_000, 65_536));
        assert_eq!(with(node, &[], &[]).unwrap().users, None);
        for (mode, uids, gids) in [
            (pod, &[][..], &one[..]),
            (pod, &one, &[]),
            (pod, &[range(0, 1), range(1, 1)], &one),
            (pod, &[range(1, 65_536)], &one),
            (pod, &one, &[range(0, 0)]),
            (pod, &one, &[range(0, u32::MAX)]),
            (node, &one, &one),
            (1, &one, &one),
        ] {
            let error = with(mode, uids, gids).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
            assert!(error.to_string().contains("userns_options"), "{error}");
        }
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
