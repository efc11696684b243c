//! One specification: a JSON or YAML file of a vendor.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::name;
use crate::{
    spec::edits::{ContainerEdits, HOOK_NAMES},
    yaml,
};

/// The largest file; a node with hundreds of devices has some hundred kilobytes.
const FILE_LIMIT: u64 = 16 << 20;

/// The releases of the specification that are understood, the oldest first.
const VERSIONS: [&str; 8] =
    ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

/// The devices of one kind.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct Document {
    cdi_version: String,
    pub(super) kind: String,
    annotations: BTreeMap<String, String>,
    pub(super) devices: Vec<Device>,
    /// For a container that has any of the devices.
    pub(super) container_edits: ContainerEdits,
}

/// One device.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct Device {
    pub(super) name: String,
    annotations: BTreeMap<String, String>,
    pub(super) container_edits: ContainerEdits,
}

impl Document {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let mut text = String::new();
        let file = File::open(path).map_err(|error| error.to_string())?;
        if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err("it is no regular file".to_owned());
        }
        file.take(FILE_LIMIT + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
        if text.len() as u64 > FILE_LIMIT {
            return Err(format!("it has more than {} MiB", FILE_LIMIT >> 20));
        }
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        Self::parse(&text, is_json)
    }

    /// The same for the text of a file.
    pub(super) fn parse(text: &str, is_json: bool) -> Result<Self, String> {
        let document: Self = match is_json {
            true => serde_json::from_str(text).map_err(|error| error.to_string())?,
            false => {
                let value = yaml::value(text)?;
                serde_json::from_value(value).map_err(|error| error.to_string())?
            }
        };
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<(), String> {
        let own = self.cdi_version.trim_start_matches('v');
        let place = VERSIONS.iter().position(|version| *version == own).ok_or_else(|| {
            format!("its cdiVersion is {:?}; known are {}", self.cdi_version, VERSIONS.join(", "))
        })?;
        let (needed, what) = self.needed();
        if VERSIONS.iter().position(|version| *version == needed) > Some(place) {
            return Err(format!("its cdiVersion is {own}, and {what} needs at least {needed}"));
        }
        name::check_kind(&self.kind).map_err(|reason| format!("kind {:?}: {reason}", self.kind))?;
        if self.devices.is_empty() {
            return Err("it has no devices".to_owned());
        }
        let mut names = std::collections::BTreeSet::new();
        for device in &self.devices {
            let of_device = |reason: &str| format!("device {:?}: {reason}", device.name);
            name::check_name(&device.name).map_err(of_device)?;
            if !names.insert(&device.name) {
                return Err(of_device("is described twice"));
            }
            if device.container_edits == ContainerEdits::default() {
                return Err(of_device("changes nothing of a container"));
            }
            check_edits(&device.container_edits).map_err(|reason| of_device(&reason))?;
        }
        check_edits(&self.container_edits)
    }

    /// The release of the specification that brought the newest thing in use here, and which
    /// that is.
    fn needed(&self) -> (&'static str, &'static str) {
        let of_devices = self.devices.iter().map(|device| &device.container_edits);
        let edits: Vec<&ContainerEdits> = of_devices.chain([&self.container_edits]).collect();
        let any = |uses: fn(&ContainerEdits) -> bool| edits.iter().any(|edits| uses(edits));
        let rdt = |uses: fn(&crate::spec::edits::IntelRdt) -> bool| {
            edits.iter().any(|edits| edits.intel_rdt.as_ref().is_some_and(uses))
        };
        let class = self.kind.split_once('/').map_or("", |(_, class)| class);
        let is_annotated = !self.annotations.is_empty()
            || self.devices.iter().any(|device| !device.annotations.is_empty());
        let with_digit = |device: &Device| device.name.starts_with(|c: char| c.is_ascii_digit());
        [
            (any(|edits| !edits.net_devices.is_empty()), "1.1.0", "netDevices"),
            (rdt(|rdt| !rdt.schemata.is_empty() || rdt.enable_monitoring), "1.1.0", "schemata"),
            (any(|edits| edits.intel_rdt.is_some()), "0.7.0", "intelRdt"),
            (any(|edits| !edits.additional_gids.is_empty()), "0.7.0", "additionalGids"),
            (is_annotated, "0.6.0", "annotations"),
            (class.contains('.'), "0.6.0", "a class with a dot"),
            (self.devices.iter().any(with_digit), "0.5.0", "a name that begins with a digit"),
            (
                any(|edits| edits.device_nodes.iter().any(|node| node.host_path != PathBuf::new())),
                "0.5.0",
                "hostPath of a device node",
            ),
            (
                any(|edits| edits.mounts.iter().any(|mount| !mount.kind.is_empty())),
                "0.4.0",
                "the type of a mount",
            ),
        ]
        .into_iter()
        .find(|(is_used, ..)| *is_used)
        .map_or((VERSIONS[0], ""), |(_, version, what)| (version, what))
    }
}

fn check_edits(edits: &ContainerEdits) -> Result<(), String> {
    let is_variable = |text: &String| text.find('=').is_some_and(|at| at > 0);
    let variables = edits.env.iter().chain(edits.hooks.iter().flat_map(|hook| &hook.env));
    if let Some(wrong) = variables.clone().find(|text| !is_variable(text)) {
        return Err(format!("{wrong:?} is no variable with a value"));
    }
    for node in &edits.device_nodes {
        let path = node.path.display();
        if !node.path.is_absolute() {
            return Err(format!("the path of device node {path} is not absolute"));
        }
        if !["", "b", "c", "u", "p"].contains(&node.kind.as_str()) {
            return Err(format!("device node {path} has the type {:?}", node.kind));
        }
        if !(0..=i64::from(u32::MAX)).contains(&node.major)
            || !(0..=i64::from(u32::MAX)).contains(&node.minor)
        {
            return Err(format!("device node {path} has the number {}:{}", node.major, node.minor));
        }
        let permissions = &node.permissions;
        if permissions != "none" && !permissions.chars().all(|letter| "rwm".contains(letter)) {
            return Err(format!("device node {path} has the permissions {permissions:?}"));
        }
    }
    for mount in &edits.mounts {
        if mount.host_path.as_os_str().is_empty() || !mount.container_path.is_absolute() {
            let path = mount.container_path.display();
            return Err(format!("the mount at {path:?} needs hostPath and an absolute path"));
        }
    }
    for hook in &edits.hooks {
        if !HOOK_NAMES.contains(&hook.hook_name.as_str()) {
            let all = HOOK_NAMES.join(", ");
            return Err(format!("{:?} is no hookName; there are {all}", hook.hook_name));
        }
        if !hook.path.is_absolute() || hook.timeout.is_some_and(|seconds| seconds <= 0) {
            let reason = "needs an absolute path, and a timeout above 0 if any";
            return Err(format!("the {} hook {}", hook.hook_name, reason));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Document;
    use serde_json::json;

    fn parse(version: &str, edits: serde_json::Value) -> Result<Document, String> {
        let document = json!({
            "cdiVersion": version, "kind": "vendor.com/gpu",
            "devices": [{ "name": "a", "containerEdits": edits }],
        });
        Document::parse(&document.to_string(), true)
    }

    #[test]
    fn versions_are_those_that_the_contents_need() {
        for (needed, edits) in [
            ("0.3.0", json!({ "env": ["A=1"] })),
            (
                "0.4.0",
                json!({ "mounts": [{ "hostPath": "/a", "containerPath": "/b", "type": "x" }] }),
            ),
            ("0.5.0", json!({ "deviceNodes": [{ "path": "/dev/a", "hostPath": "/dev/b" }] })),
            ("0.7.0", json!({ "additionalGids": [1] })),
            ("0.7.0", json!({ "intelRdt": { "closID": "x" } })),
            ("1.1.0", json!({ "netDevices": [{ "hostInterfaceName": "a", "name": "b" }] })),
        ] {
            for version in super::VERSIONS {
                let place = |text: &str| super::VERSIONS.iter().position(|v| *v == text);
                let parsed = parse(version, edits.clone());
                assert_eq!(
                    parsed.is_ok(),
                    place(version) >= place(needed),
                    "{version}: {parsed:?}"
                );
            }
        }
        for version in ["", "0.2.0", "9.0.0", "1"] {
            assert!(parse(version, json!({ "env": ["A=1"] })).unwrap_err().contains("1.1.0"));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for edits in [
            json!({}),
            json!({ "env": ["A"] }),
            json!({ "env": ["=A"] }),
            json!({ "unknown": 1 }),
            json!({ "deviceNodes": [{ "path": "dev/a" }] }),
            json!({ "deviceNodes": [{ "path": "/dev/a", "type": "x" }] }),
            json!({ "deviceNodes": [{ "path": "/dev/a", "major": -1 }] }),
            json!({ "deviceNodes": [{ "path": "/dev/a", "permissions": "rx" }] }),
            json!({ "mounts": [{ "hostPath": "", "containerPath": "/b" }] }),
            json!({ "hooks": [{ "hookName": "never", "path": "/x" }] }),
            json!({ "hooks": [{ "hookName": "poststop", "path": "x" }] }),
            json!({ "hooks": [{ "hookName": "poststop", "path": "/x", "timeout": 0 }] }),
        ] {
            assert!(parse("1.1.0", edits.clone()).is_err(), "{edits}");
        }
    }

    #[test]
    fn yaml_says_the_same_as_json() {
        let yaml = "---\ncdiVersion: 0.7.0\nkind: vendor.com/gpu\n# a comment\ndevices:\n- name: \"a\"\n  containerEdits:\n    additionalGids: [1]\n";
        assert_eq!(Document::parse(yaml, false), parse("0.7.0", json!({ "additionalGids": [1] })));
    }
}
