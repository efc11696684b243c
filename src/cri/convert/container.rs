//! Containers.

use std::collections::BTreeMap;

use prost::Message;

use super::{
    super::v1,
    shared::{id, namespaces, profile, profile_by_path, range, resources, resources_out, selinux},
};
use crate::{
    cri::items::{ContainerItem, PlainContainerItem},
    pod::{Container, ContainerPhase, ContainerRecord},
    spec::{
        Error,
        config::{
            ContainerConfig, ContainerMetadata, ContainerSecurity, Device, GroupsPolicy, ImageSpec,
            ImageVolume, Mount, Propagation, RunAs,
        },
    },
};

/// The configuration of a container.
pub fn config(config: v1::ContainerConfig) -> Result<ContainerConfig, Error> {
    if config.windows.is_some() {
        return Err(Error::invalid("windows", "this is not a Windows node"));
    }
    let metadata = config
        .metadata
        .ok_or_else(|| Error::invalid("metadata", "is missing; it is the container's identity"))?;
    let image = config.image.ok_or_else(|| Error::invalid("image", "is missing; name an image"))?;
    let linux = config.linux.unwrap_or_default();
    let (envs, raw_envs) = environment(config.envs);
    let stop_signal = stop_signal(config.stop_signal)?;
    Ok(ContainerConfig {
        metadata: ContainerMetadata { name: metadata.name, attempt: metadata.attempt },
        image: image_spec(image),
        command: config.command,
        args: config.args,
        working_dir: config.working_dir,
        envs,
        raw_envs,
        mounts: config.mounts.into_iter().map(mount).collect::<Result<_, _>>()?,
        devices: config
            .devices
            .into_iter()
            .map(|device| Device {
                container_path: device.container_path,
                host_path: device.host_path,
                permissions: device.permissions,
            })
            .collect(),
        cdi_devices: config.cdi_devices.into_iter().map(|device| device.name).collect(),
        labels: config.labels.into_iter().collect(),
        annotations: config.annotations.into_iter().collect(),
        log_path: config.log_path,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
        resources: linux.resources.map(resources),
        security: match linux.security_context {
            None => ContainerSecurity { default_masks: true, ..ContainerSecurity::default() },
            Some(context) => security(context)?,
        },
        stop_signal,
    })
}

fn image_spec(image: v1::ImageSpec) -> ImageSpec {
    ImageSpec {
        image: image.image,
        annotations: image.annotations.into_iter().collect(),
        user_specified_image: image.user_specified_image,
        runtime_handler: image.runtime_handler,
    }
}

fn image_spec_out(image: &ImageSpec) -> v1::ImageSpec {
    v1::ImageSpec {
        image: image.image.clone(),
        annotations: image.annotations.clone().into_iter().collect(),
        user_specified_image: image.user_specified_image.clone(),
        runtime_handler: image.runtime_handler.clone(),
        image_ref: String::new(),
    }
}

type RawValues = BTreeMap<String, Vec<u8>>;

/// All variables as text, which an OCI spec holds, and beside it the bytes of those that are
/// none. Of a name that comes twice the last value counts.
fn environment(envs: Vec<v1::KeyValue>) -> (Vec<(String, String)>, RawValues) {
    let (mut texts, mut raw) = (Vec::new(), RawValues::new());
    for v1::KeyValue { key, value } in envs {
        raw.remove(&key);
        let text = String::from_utf8(value).unwrap_or_else(|error| {
            let bytes = error.into_bytes();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            raw.insert(key.clone(), bytes);
            text
        });
        texts.push((key, text));
    }
    (texts, raw)
}

fn mount(mount: v1::Mount) -> Result<Mount, Error> {
    let idmapped = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    if idmapped {
        range("mounts.uidMappings", &mount.uid_mappings)?;
        range("mounts.gidMappings", &mount.gid_mappings)?;
    }
    let propagation = match v1::MountPropagation::try_from(mount.propagation) {
        Ok(v1::MountPropagation::PropagationPrivate) => Propagation::Private,
        Ok(v1::MountPropagation::PropagationHostToContainer) => Propagation::HostToContainer,
        Ok(v1::MountPropagation::PropagationBidirectional) => Propagation::Bidirectional,
        Err(_) => {
            let reason = format!("{} is no propagation; use 0 to 2", mount.propagation);
            return Err(Error::invalid("mounts.propagation", reason));
        }
    };
    // Clients that know the field send an empty one with every mount.
    let is_image = |image: &v1::ImageSpec| !image.image.is_empty();
    let image = match mount.image.filter(is_image) {
        Some(image) => Some(ImageVolume {
            image: image_spec(image),
            sub_path: mount.image_sub_path,
            image_ref: String::new(),
        }),
        None if mount.image_sub_path.is_empty() => None,
        None => {
            let reason = format!("of the mount at {:?} needs an image", mount.container_path);
            return Err(Error::invalid("mounts.image_sub_path", reason));
        }
    };
    Ok(Mount {
        idmapped,
        container_path: mount.container_path,
        host_path: mount.host_path,
        image,
        readonly: mount.readonly,
        selinux_relabel: mount.selinux_relabel,
        propagation,
        recursive_read_only: mount.recursive_read_only,
        options: mount.mount_options,
    })
}

fn mount_out(mount: &Mount) -> v1::Mount {
    let propagation = match mount.propagation {
        Propagation::Private => v1::MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => v1::MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => v1::MountPropagation::PropagationBidirectional,
    };
    v1::Mount {
        container_path: mount.container_path.clone(),
        host_path: mount.host_path.clone(),
        readonly: mount.readonly,
        selinux_relabel: mount.selinux_relabel,
        propagation: propagation.into(),
        recursive_read_only: mount.recursive_read_only,
        mount_options: mount.options.clone(),
        image: mount.image.as_ref().map(|volume| v1::ImageSpec {
            image_ref: volume.image_ref.clone(),
            ..image_spec_out(&volume.image)
        }),
        image_sub_path: mount.image.as_ref().map(|v| v.sub_path.clone()).unwrap_or_default(),
        ..v1::Mount::default()
    }
}

#[expect(deprecated, reason = "the old fields are read for kubelets that still send them")]
fn security(context: v1::LinuxContainerSecurityContext) -> Result<ContainerSecurity, Error> {
    let capabilities = context.capabilities.unwrap_or_default();
    let by_path = |field, path: &str| profile_by_path(field, path);
    let seccomp = match profile("security_context.seccomp", context.seccomp)? {
        None => by_path("security_context.seccomp_profile_path", &context.seccomp_profile_path)?,
        given => given,
    };
    let apparmor = match profile("security_context.apparmor", context.apparmor)? {
        None => by_path("security_context.apparmor_profile", &context.apparmor_profile)?,
        given => given,
    };
    let run_as = match (context.run_as_user, context.run_as_username.as_str()) {
        (Some(user), _) => Some(RunAs::Uid(id("security_context.run_as_user", user.value)?)),
        (None, "") => None,
        (None, name) => Some(RunAs::Username(name.to_owned())),
    };
    let group = context.run_as_group.map(|group| id("security_context.run_as_group", group.value));
    let supplemental = |group| id("security_context.supplemental_groups", group);
    Ok(ContainerSecurity {
        add_capabilities: capabilities.add_capabilities,
        drop_capabilities: capabilities.drop_capabilities,
        add_ambient_capabilities: capabilities.add_ambient_capabilities,
        privileged: context.privileged,
        namespaces: namespaces(context.namespace_options)?,
        run_as,
        run_as_group: group.transpose()?,
        readonly_rootfs: context.readonly_rootfs,
        supplemental_groups: context
            .supplemental_groups
            .into_iter()
            .map(supplemental)
            .collect::<Result<_, _>>()?,
        groups_policy: groups_policy(context.supplemental_groups_policy)?,
        no_new_privs: context.no_new_privs,
        default_masks: false,
        masked_paths: context.masked_paths,
        readonly_paths: context.readonly_paths,
        seccomp,
        apparmor,
        selinux: selinux(context.selinux_options),
    })
}

fn groups_policy(number: i32) -> Result<GroupsPolicy, Error> {
    match v1::SupplementalGroupsPolicy::try_from(number) {
        Ok(v1::SupplementalGroupsPolicy::Merge) => Ok(GroupsPolicy::Merge),
        Ok(v1::SupplementalGroupsPolicy::Strict) => Ok(GroupsPolicy::Strict),
        Err(_) => {
            let reason = format!("{number} is neither Merge nor Strict");
            Err(Error::invalid("security_context.supplemental_groups_policy", reason))
        }
    }
}

/// The name that our signals have: `SIGRTMIN+3` for `SIGNAL_SIGRTMINPLUS3`.
fn stop_signal(number: i32) -> Result<Option<String>, Error> {
    match v1::Signal::try_from(number) {
        Ok(v1::Signal::RuntimeDefault) => Ok(None),
        Ok(signal) => {
            let name = signal.as_str_name().trim_start_matches("SIGNAL_");
            Ok(Some(name.replace("PLUS", "+").replace("MINUS", "-")))
        }
        Err(_) => Err(Error::invalid("stop_signal", format!("{number} is no signal of the CRI"))),
    }
}

/// The CRI's signal of a kernel number.
fn signal_out(number: i32) -> i32 {
    (1..=65)
        .filter_map(|candidate| v1::Signal::try_from(candidate).ok())
        .find(|signal| {
            let name = stop_signal(i32::from(*signal)).ok().flatten();
            name.and_then(|name| crate::spec::signal::number(&name)) == Some(number)
        })
        .unwrap_or(v1::Signal::RuntimeDefault)
        .into()
}

fn metadata(metadata: &ContainerMetadata) -> v1::ContainerMetadata {
    v1::ContainerMetadata { name: metadata.name.clone(), attempt: metadata.attempt }
}

fn state(phase: &ContainerPhase) -> v1::ContainerState {
    match phase {
        ContainerPhase::Created => v1::ContainerState::ContainerCreated,
        ContainerPhase::Running { .. } => v1::ContainerState::ContainerRunning,
        ContainerPhase::Exited { .. } => v1::ContainerState::ContainerExited,
    }
}

/// A container in a list, where it is wanted by what its record says.
pub fn list_item(
    container: &Container,
    is_wanted: impl FnOnce(&ContainerRecord, i32) -> bool,
) -> Option<ContainerItem> {
    let record = container.record();
    let state = state(&record.phase).into();
    let encode = || item(container, &record).encode_to_vec().into();
    is_wanted(&record, state).then(|| ContainerItem::from_bytes(container.told.item(state, encode)))
}

/// The fields of a container in a list.
pub(super) fn plain_item(container: &Container) -> PlainContainerItem {
    item(container, &container.record())
}

fn item(container: &Container, record: &ContainerRecord) -> PlainContainerItem {
    let config = &record.config;
    PlainContainerItem {
        id: container.id.to_string(),
        pod_sandbox_id: record.sandbox.to_string(),
        metadata: Some(metadata(&config.metadata)),
        image: Some(image_spec_out(&config.image)),
        image_ref: record.image_ref.clone(),
        state: state(&record.phase).into(),
        created_at: record.created_at,
        labels: config.labels.clone().into_iter().collect(),
        annotations: config.annotations.clone().into_iter().collect(),
        image_id: record.image_id.to_string(),
    }
}

/// The status of a container. `image` is its first name, where it has one still.
pub fn status(container: &Container, image: Option<String>) -> v1::ContainerStatus {
    let record = container.record();
    let config = &record.config;
    let image_spec = v1::ImageSpec {
        image: image.unwrap_or_else(|| config.image.image.clone()),
        ..image_spec_out(&config.image)
    };
    let mut status = v1::ContainerStatus {
        id: container.id.to_string(),
        metadata: Some(metadata(&config.metadata)),
        state: state(&record.phase).into(),
        created_at: record.created_at,
        image: Some(image_spec),
        image_ref: record.image_ref.clone(),
        labels: config.labels.clone().into_iter().collect(),
        annotations: config.annotations.clone().into_iter().collect(),
        mounts: config.mounts.iter().map(mount_out).collect(),
        log_path: record
            .log_path
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default(),
        resources: config.resources.as_ref().map(|resources| v1::ContainerResources {
            linux: Some(resources_out(resources)),
            windows: None,
        }),
        image_id: record.image_id.to_string(),
        user: Some(v1::ContainerUser {
            linux: Some(v1::LinuxContainerUser {
                uid: i64::from(record.user.uid),
                gid: i64::from(record.user.gid),
                supplemental_groups: record.user.groups.iter().copied().map(i64::from).collect(),
            }),
        }),
        stop_signal: signal_out(record.stop_signal),
        ..v1::ContainerStatus::default()
    };
    match &record.phase {
        ContainerPhase::Created => {}
        ContainerPhase::Running { started_at, .. } => status.started_at = *started_at,
        ContainerPhase::Exited { started_at, finished_at, exit_code, reason, message } => {
            status.started_at = *started_at;
            status.finished_at = *finished_at;
            status.exit_code = *exit_code;
            status.reason.clone_from(reason);
            status.message.clone_from(message);
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::{config, signal_out, stop_signal};
    use crate::{cri::v1, kind::Kind};

    fn request() -> v1::ContainerConfig {
        v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: "c".to_owned(), attempt: 0 }),
            image: Some(v1::ImageSpec { image: "i".to_owned(), ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn every_signal_of_the_cri_is_one_of_the_kernel() {
        for number in 1..=65 {
            let name = stop_signal(number).unwrap().unwrap();
            let kernel = crate::spec::signal::number(&name);
            assert!(kernel.is_some(), "{name}");
            let back = stop_signal(signal_out(kernel.unwrap())).unwrap().unwrap();
            assert_eq!(crate::spec::signal::number(&back), kernel, "{name}");
        }
        assert_eq!(stop_signal(0).unwrap(), None);
        assert!(stop_signal(999).is_err());
    }

    #[test]
    fn a_mounts_mappings_are_one_range_of_each_kind() {
        let one = vec![v1::IdMapping { host_id: 1000, container_id: 0, length: 10 }];
        let with = |uid_mappings: &[v1::IdMapping], gid_mappings: &[v1::IdMapping]| {
            let mut mapped = request();
            mapped.mounts = vec![v1::Mount {
                uid_mappings: uid_mappings.to_vec(),
                gid_mappings: gid_mappings.to_vec(),
                ..Default::default()
            }];
            config(mapped)
        };
        assert!(with(&one, &one).unwrap().mounts[0].idmapped);
        for (uids, gids, field) in [
            (&[v1::IdMapping::default()][..], &one[..], "uidMappings"),
            (&one, &[], "gidMappings"),
            (&[], &one, "uidMappings"),
        ] {
            let error = with(uids, gids).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
            assert!(error.to_string().contains(field), "{error}");
        }
    }

    #[test]
    fn wrong_numbers_are_refused() {
        let context = |context: v1::LinuxContainerSecurityContext| {
            let mut request = request();
            request.linux = Some(v1::LinuxContainerConfig {
                security_context: Some(context),
                ..Default::default()
            });
            config(request).unwrap_err()
        };
        let error = context(v1::LinuxContainerSecurityContext {
            run_as_user: Some(v1::Int64Value { value: 1 << 32 }),
            ..Default::default()
        });
        assert!(error.to_string().contains("run_as_user"), "{error}");
        let error = context(v1::LinuxContainerSecurityContext {
            supplemental_groups_policy: 7,
            ..Default::default()
        });
        assert!(error.to_string().contains("supplemental_groups_policy"), "{error}");
    }
}
