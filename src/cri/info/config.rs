//! Configurations in the CRI's own shape, as Go's JSON of its messages is: fields by their
//! names in the interface, enumerations by number, and what is not set left out. Tools that
//! were written for the other runtimes read this.

use serde_json::{Map, Value, json};

use crate::{
    cri::v1,
    spec::config::{
        ContainerConfig, ContainerSecurity, GroupsPolicy, ImageSpec, Mount, NamespaceMode,
        Namespaces, Profile, Propagation, Protocol, Resources, RunAs, SandboxConfig,
        SelinuxOptions,
    },
};

/// A container's.
pub(super) fn of_container(config: &ContainerConfig) -> Value {
    let envs = config.envs.iter().map(|(key, value)| json!({ "key": key, "value": value }));
    let devices = config.devices.iter().map(|device| {
        json!({
            "container_path": device.container_path,
            "host_path": device.host_path,
            "permissions": device.permissions,
        })
    });
    let cdi_devices = config.cdi_devices.iter().map(|name| json!({ "name": name }));
    without_empty(json!({
        "metadata": { "name": config.metadata.name, "attempt": config.metadata.attempt },
        "image": image(&config.image),
        "command": config.command,
        "args": config.args,
        "working_dir": config.working_dir,
        "envs": envs.collect::<Value>(),
        "mounts": config.mounts.iter().map(mount).collect::<Value>(),
        "devices": devices.collect::<Value>(),
        "CDI_devices": cdi_devices.collect::<Value>(),
        "labels": config.labels,
        "annotations": config.annotations,
        "log_path": config.log_path,
        "stdin": config.stdin,
        "stdin_once": config.stdin_once,
        "tty": config.tty,
        "linux": {
            "resources": config.resources.as_ref().map(resources),
            "security_context": security(&config.security),
        },
        "stop_signal": config.stop_signal.as_deref().and_then(signal),
    }))
}

/// A sandbox's.
pub(super) fn of_sandbox(config: &SandboxConfig) -> Value {
    let ports = config.port_mappings.iter().map(|mapping| {
        json!({
            "protocol": match mapping.protocol {
                Protocol::Tcp => 0,
                Protocol::Udp => 1,
                Protocol::Sctp => 2,
            },
            "container_port": mapping.container_port,
            "host_port": mapping.host_port,
            "host_ip": mapping.host_ip,
        })
    });
    let dns = config.dns.as_ref().map(
        |dns| json!({ "servers": dns.servers, "searches": dns.searches, "options": dns.options }),
    );
    without_empty(json!({
        "metadata": {
            "name": config.metadata.name,
            "uid": config.metadata.uid,
            "namespace": config.metadata.namespace,
            "attempt": config.metadata.attempt,
        },
        "hostname": config.hostname,
        "log_directory": config.log_directory,
        "dns_config": dns,
        "port_mappings": ports.collect::<Value>(),
        "labels": config.labels,
        "annotations": config.annotations,
        "linux": {
            "cgroup_parent": config.cgroup_parent,
            "security_context": {
                "namespace_options": namespaces(&config.security.namespaces),
                "readonly_rootfs": config.security.readonly_rootfs,
                "privileged": config.security.privileged,
            },
            "sysctls": config.sysctls,
            "overhead": config.overhead.as_ref().map(resources),
            "resources": config.resources.as_ref().map(resources),
        },
    }))
}

fn image(image: &ImageSpec) -> Value {
    json!({
        "image": image.image,
        "annotations": image.annotations,
        "user_specified_image": image.user_specified_image,
        "runtime_handler": image.runtime_handler,
    })
}

fn mount(mount: &Mount) -> Value {
    let volume = mount.image.as_ref();
    json!({
        "container_path": mount.container_path,
        "host_path": mount.host_path,
        "readonly": mount.readonly,
        "selinux_relabel": mount.selinux_relabel,
        "propagation": match mount.propagation {
            Propagation::Private => 0,
            Propagation::HostToContainer => 1,
            Propagation::Bidirectional => 2,
        },
        "recursive_read_only": mount.recursive_read_only,
        "image": volume.map(|volume| image(&volume.image)),
        "image_sub_path": volume.map(|volume| &volume.sub_path),
        "mount_options": mount.options,
    })
}

fn security(security: &ContainerSecurity) -> Value {
    let number = |number: u32| json!({ "value": number });
    let (user, name) = match &security.run_as {
        Some(RunAs::Uid(uid)) => (Some(number(*uid)), None),
        Some(RunAs::Username(name)) => (None, Some(name)),
        None => (None, None),
    };
    json!({
        "capabilities": {
            "add_capabilities": security.add_capabilities,
            "drop_capabilities": security.drop_capabilities,
            "add_ambient_capabilities": security.add_ambient_capabilities,
        },
        "privileged": security.privileged,
        "namespace_options": namespaces(&security.namespaces),
        "run_as_user": user,
        "run_as_username": name,
        "run_as_group": security.run_as_group.map(number),
        "readonly_rootfs": security.readonly_rootfs,
        "supplemental_groups": security.supplemental_groups,
        "supplemental_groups_policy": match security.groups_policy {
            GroupsPolicy::Merge => 0,
            GroupsPolicy::Strict => 1,
        },
        "no_new_privs": security.no_new_privs,
        "masked_paths": security.masked_paths,
        "readonly_paths": security.readonly_paths,
        "seccomp": security.seccomp.as_ref().map(profile),
        "apparmor": security.apparmor.as_ref().map(profile),
        "selinux_options": selinux(&security.selinux),
    })
}

fn selinux(options: &SelinuxOptions) -> Option<Value> {
    let SelinuxOptions { user, role, kind, level } = options;
    (*options != SelinuxOptions::default())
        .then(|| json!({ "user": user, "role": role, "type": kind, "level": level }))
}

fn profile(profile: &Profile) -> Value {
    match profile {
        Profile::RuntimeDefault => json!({ "profile_type": 0 }),
        Profile::Unconfined => json!({ "profile_type": 1 }),
        Profile::Localhost(path) => json!({ "profile_type": 2, "localhost_ref": path }),
    }
}

fn namespaces(namespaces: &Namespaces) -> Value {
    let mode = |mode| match mode {
        NamespaceMode::Pod => 0,
        NamespaceMode::Container => 1,
        NamespaceMode::Node => 2,
        NamespaceMode::Target => 3,
    };
    json!({
        "network": mode(namespaces.network),
        "pid": mode(namespaces.pid),
        "ipc": mode(namespaces.ipc),
        "target_id": namespaces.target,
    })
}

fn resources(resources: &Resources) -> Value {
    let hugepages = resources.hugepage_limits.iter();
    let hugepages = hugepages.map(|(size, limit)| json!({ "page_size": size, "limit": limit }));
    json!({
        "cpu_period": resources.cpu_period,
        "cpu_quota": resources.cpu_quota,
        "cpu_shares": resources.cpu_shares,
        "memory_limit_in_bytes": resources.memory_limit,
        "oom_score_adj": resources.oom_score_adj,
        "cpuset_cpus": resources.cpuset_cpus,
        "cpuset_mems": resources.cpuset_mems,
        "hugepage_limits": hugepages.collect::<Value>(),
        "unified": resources.unified,
        "memory_swap_limit_in_bytes": resources.memory_swap_limit,
    })
}

/// The CRI's number of a signal.
fn signal(name: &str) -> Option<i32> {
    let name = format!("SIGNAL_{}", name.replace('+', "PLUS").replace('-', "MINUS"));
    v1::Signal::from_str_name(&name).map(i32::from)
}

/// Leaves out what is not set. A value by itself is set where it is there: user 0, profile 0,
/// and what users named themselves.
fn without_empty(value: Value) -> Value {
    const OF_USERS: [&str; 4] = ["labels", "annotations", "sysctls", "unified"];
    let is_kept = |key: &str, value: &Value| {
        ["value", "profile_type"].contains(&key)
            || match value {
                Value::Null | Value::Bool(false) => false,
                Value::Number(number) => number.as_f64() != Some(0.0),
                Value::String(text) => !text.is_empty(),
                Value::Array(items) => !items.is_empty(),
                Value::Object(fields) => !fields.is_empty(),
                Value::Bool(true) => true,
            }
    };
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(key, value)| match OF_USERS.contains(&&*key) {
                true => (key, value),
                false => (key, without_empty(value)),
            });
            Value::Object(fields.filter(|(key, value)| is_kept(key, value)).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.into_iter().map(without_empty).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{of_container, of_sandbox};
    use crate::spec::config::{
        ContainerConfig, NamespaceMode, Profile, Resources, RunAs, SandboxConfig,
    };

    #[test]
    fn what_is_set_is_there_and_nothing_else() {
        let mut config = ContainerConfig {
            command: vec!["sh".to_owned(), String::new()],
            envs: vec![("A".to_owned(), String::new())],
            labels: [("l".to_owned(), String::new())].into(),
            resources: Some(Resources { cpu_shares: 2, ..Resources::default() }),
            stop_signal: Some("SIGRTMIN+3".to_owned()),
            ..ContainerConfig::default()
        };
        config.metadata.name = "c".to_owned();
        config.security.run_as = Some(RunAs::Uid(0));
        config.security.namespaces.pid = NamespaceMode::Container;
        config.security.seccomp = Some(Profile::RuntimeDefault);
        let signal = crate::cri::v1::Signal::Sigrtminplus3;
        let expected = json!({
            "metadata": { "name": "c" },
            "command": ["sh", ""],
            "envs": [{ "key": "A", "value": "" }],
            "labels": { "l": "" },
            "linux": {
                "resources": { "cpu_shares": 2 },
                "security_context": {
                    "namespace_options": { "pid": 1 },
                    "run_as_user": { "value": 0 },
                    "seccomp": { "profile_type": 0 },
                },
            },
            "stop_signal": i32::from(signal),
        });
        assert_eq!(of_container(&config), expected);
    }

    #[test]
    fn a_sandbox_has_the_interfaces_names() {
        let mut config = SandboxConfig { hostname: "h".to_owned(), ..SandboxConfig::default() };
        config.metadata.uid = "u".to_owned();
        config.cgroup_parent = "/pod".to_owned();
        config.security.namespaces.network = NamespaceMode::Node;
        let expected = json!({
            "metadata": { "uid": "u" },
            "hostname": "h",
            "linux": {
                "cgroup_parent": "/pod",
                "security_context": { "namespace_options": { "network": 2 } },
            },
        });
        assert_eq!(of_sandbox(&config), expected);
    }
}
