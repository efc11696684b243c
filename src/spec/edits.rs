//! Changes to a spec that a device brings along (`containerEdits` of the Container Device
//! Interface), with what a device is on this host filled in.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Hook as OciHook, Linux, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, Mount as OciMount,
    Process, Spec,
};
use serde::Deserialize;

use super::mounts::clean;

/// What is added to a container that gets a device.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ContainerEdits {
    /// `NAME=VALUE`.
    pub env: Vec<String>,
    /// Devices of the host.
    pub device_nodes: Vec<DeviceNode>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Programs that are run in the life of the container.
    pub hooks: Vec<Hook>,
    /// Groups that its process is in as well; 0 is passed over.
    #[serde(rename = "additionalGids")]
    pub additional_gids: Vec<u32>,
    /// A class of Intel's resource director.
    pub intel_rdt: Option<IntelRdt>,
    /// Network devices of the host that are moved into it.
    pub net_devices: Vec<serde_json::Value>,
}

/// A device of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DeviceNode {
    /// Where in the container.
    pub path: PathBuf,
    /// Where on the host; empty for the same path.
    pub host_path: PathBuf,
    /// `b`, `c`, `u` or `p`; empty for what it is on the host.
    #[serde(rename = "type")]
    pub kind: String,
    /// Major number; 0 for that of the host.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Mode of the node; none for that of the host.
    pub file_mode: Option<u32>,
    /// Any of `r`, `w`, `m`; empty for all, `none` for none.
    pub permissions: String,
    /// Owner; none for the user of the container.
    pub uid: Option<u32>,
    /// Group; none for that of the container.
    pub gid: Option<u32>,
}

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Mount {
    /// What of the host.
    pub host_path: PathBuf,
    /// Where in the container.
    pub container_path: PathBuf,
    /// As in an OCI spec.
    pub options: Vec<String>,
    /// As in an OCI spec; empty for a bind mount.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A program that is run at a moment in the life of the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Hook {
    /// The moment: the name of one of the lists of hooks of an OCI spec.
    pub hook_name: String,
    /// The program.
    pub path: PathBuf,
    /// Its arguments, its own name first.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<String>,
    /// Seconds.
    pub timeout: Option<i64>,
}

/// A class of Intel's resource director technology.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct IntelRdt {
    /// The name of the class.
    #[serde(rename = "closID")]
    pub clos_id: String,
    /// Cache.
    pub l3_cache_schema: String,
    /// Memory bandwidth.
    pub mem_bw_schema: String,
    /// Cache monitoring.
    #[serde(rename = "enableCMT")]
    pub enable_cmt: bool,
    /// Memory monitoring.
    #[serde(rename = "enableMBM")]
    pub enable_mbm: bool,
    /// Lines for the file `schemata`.
    pub schemata: Vec<String>,
    /// Monitoring.
    pub enable_monitoring: bool,
}

/// The moments at which hooks are run, as an OCI spec names them.
pub const HOOK_NAMES: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Makes the changes. A variable, a device or a mount takes the place of one that has the same
/// name, path or destination.
pub fn apply(spec: &mut Spec, edits: &ContainerEdits) {
    let mut process = spec.process().clone().unwrap_or_default();
    add_environment(&mut process, &edits.env);
    add_groups(&mut process, &edits.additional_gids);
    let owner = (process.user().uid(), process.user().gid());
    spec.set_process(Some(process));
    let mut linux = spec.linux().clone().unwrap_or_default();
    for device in &edits.device_nodes {
        add_device(&mut linux, device, owner);
    }
    spec.set_linux(Some(linux));
    add_mounts(spec, &edits.mounts);
    for hook in &edits.hooks {
        add_hook(spec, hook);
    }
}

fn add_environment(process: &mut Process, variables: &[String]) {
    let mut environment = process.env().clone().unwrap_or_default();
    let name_of = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    for variable in variables {
        let name = name_of(variable);
        match environment.iter_mut().find(|known| name_of(known) == name) {
            Some(known) => known.clone_from(variable),
            None => environment.push(variable.clone()),
        }
    }
    process.set_env(Some(environment));
}

fn add_groups(process: &mut Process, groups: &[u32]) {
    let mut user = process.user().clone();
    let mut all = user.additional_gids().clone().unwrap_or_default();
    for group in groups.iter().filter(|group| **group != 0) {
        if !all.contains(group) {
            all.push(*group);
        }
    }
    user.set_additional_gids(Some(all));
    process.set_user(user);
}

fn add_device(linux: &mut Linux, device: &DeviceNode, (uid, gid): (u32, u32)) {
    let kind = match device.kind.as_str() {
        "b" => LinuxDeviceType::B,
        "p" => LinuxDeviceType::P,
        "u" => LinuxDeviceType::U,
        _ => LinuxDeviceType::C,
    };
    let mut node = LinuxDevice::default();
    node.set_path(clean(&device.path));
    node.set_typ(kind);
    node.set_major(device.major);
    node.set_minor(device.minor);
    node.set_file_mode(device.file_mode);
    // Devices of nobody in particular belong to whom the container runs as.
    node.set_uid(device.uid.or((uid > 0).then_some(uid)));
    node.set_gid(device.gid.or((gid > 0).then_some(gid)));
    let mut nodes = linux.devices().clone().unwrap_or_default();
    nodes.retain(|known| known.path() != node.path());
    nodes.push(node);
    linux.set_devices(Some(nodes));

    let access = match device.permissions.as_str() {
        "" => "rwm",
        "none" => "",
        some => some,
    };
    let is_device = matches!(kind, LinuxDeviceType::B | LinuxDeviceType::C | LinuxDeviceType::U);
    if access.is_empty() || !is_device {
        return;
    }
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true);
    rule.set_typ(Some(if kind == LinuxDeviceType::B { kind } else { LinuxDeviceType::C }));
    rule.set_major(Some(device.major));
    rule.set_minor(Some(device.minor));
    rule.set_access(Some(access.to_owned()));
    let mut resources = linux.resources().clone().unwrap_or_default();
    let mut rules = resources.devices().clone().unwrap_or_default();
    rules.push(rule);
    resources.set_devices(Some(rules));
    linux.set_resources(Some(resources));
}

fn add_mounts(spec: &mut Spec, mounts: &[Mount]) {
    let mut all = spec.mounts().clone().unwrap_or_default();
    for mount in mounts {
        let destination = clean(Path::new(&mount.container_path));
        all.retain(|known| *known.destination() != destination);
        let kind = if mount.kind.is_empty() { "bind" } else { &mount.kind };
        let mut added = OciMount::default();
        added.set_typ(Some(kind.to_owned()));
        added.set_source(Some(mount.host_path.clone()));
        added.set_destination(destination);
        added.set_options(Some(mount.options.clone()));
        all.push(added);
    }
    // Parents before what lies in them.
    all.sort_by_key(|mount| mount.destination().components().count());
    spec.set_mounts(Some(all));
}

fn add_hook(spec: &mut Spec, hook: &Hook) {
    let mut added = OciHook::default();
    added.set_path(hook.path.clone());
    added.set_args((!hook.args.is_empty()).then(|| hook.args.clone()));
    added.set_env((!hook.env.is_empty()).then(|| hook.env.clone()));
    added.set_timeout(hook.timeout);
    let mut hooks = spec.hooks().clone().unwrap_or_default();
    let list = match hook.hook_name.as_str() {
        "prestart" => hooks.prestart_mut(),
        "createRuntime" => hooks.create_runtime_mut(),
        "createContainer" => hooks.create_container_mut(),
        "startContainer" => hooks.start_container_mut(),
        "poststart" => hooks.poststart_mut(),
        _ => hooks.poststop_mut(),
    };
    list.get_or_insert_default().push(added);
    spec.set_hooks(Some(hooks));
}

#[cfg(test)]
mod tests {
    use super::{ContainerEdits, apply};
    use oci_spec::runtime::{Process, Spec, User};
    use serde_json::json;

    fn edits(value: serde_json::Value) -> ContainerEdits {
        serde_json::from_value(value).unwrap()
    }

    fn edited(value: serde_json::Value) -> serde_json::Value {
        let mut user = User::default();
        user.set_uid(7);
        user.set_additional_gids(Some(vec![5]));
        let mut process = Process::default();
        process.set_env(Some(vec!["A=1".to_owned(), "B=2".to_owned()]));
        process.set_user(user);
        let mut spec = Spec::default();
        spec.set_process(Some(process));
        apply(&mut spec, &edits(value));
        serde_json::to_value(spec).unwrap()
    }

    #[test]
    fn what_has_the_same_name_is_replaced() {
        let spec = edited(json!({
            "env": ["B=3", "C=4=5"],
            "additionalGids": [0, 5, 6],
            "mounts": [
                { "hostPath": "/b", "containerPath": "/x/../dev/shm/deep", "options": ["ro"] },
                { "hostPath": "/a", "containerPath": "/proc", "type": "proc" }
            ]
        }));
        assert_eq!(spec["process"]["env"], json!(["A=1", "B=3", "C=4=5"]));
        assert_eq!(spec["process"]["user"]["additionalGids"], json!([5, 6]));
        let mounts = spec["mounts"].as_array().unwrap();
        assert_eq!(mounts.last().unwrap()["destination"], "/dev/shm/deep");
        assert_eq!(mounts.last().unwrap()["type"], "bind");
        let of_proc: Vec<_> = mounts.iter().filter(|m| m["destination"] == "/proc").collect();
        assert_eq!(of_proc.len(), 1);
        assert_eq!(of_proc[0]["source"], "/a");
    }

    #[test]
    fn devices_come_with_their_rules() {
        let spec = edited(json!({
            "deviceNodes": [
                { "path": "/dev/a", "type": "c", "major": 1, "minor": 3 },
                { "path": "/dev/b", "type": "b", "major": 8, "permissions": "r", "uid": 0 },
                { "path": "/dev/none", "type": "c", "major": 9, "permissions": "none" }
            ]
        }));
        let nodes = spec["linux"]["devices"].as_array().unwrap();
        assert_eq!((&nodes[0]["uid"], &nodes[1]["uid"]), (&json!(7), &json!(0)));
        let rules = spec["linux"]["resources"]["devices"].as_array().unwrap();
        let rule = |major: i64| rules.iter().find(|rule| rule["major"] == major);
        assert_eq!(rule(1).unwrap()["access"], "rwm");
        assert_eq!(
            (&rule(8).unwrap()["access"], &rule(8).unwrap()["type"]),
            (&json!("r"), &json!("b"))
        );
        assert!(rule(9).is_none());
    }

    #[test]
    fn hooks_go_into_their_lists() {
        let hook = |name: &str| json!({ "hookName": name, "path": "/bin/x", "timeout": 3 });
        let all: Vec<_> = super::HOOK_NAMES.iter().map(|name| hook(name)).collect();
        let spec = edited(json!({ "hooks": all }));
        for name in super::HOOK_NAMES {
            assert_eq!(spec["hooks"][name][0]["timeout"], 3, "{name}: {}", spec["hooks"]);
        }
    }
}
