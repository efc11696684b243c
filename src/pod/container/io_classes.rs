//! Classes of block I/O: an administrator describes them in a file, and pods name them by the
//! annotations that containerd and CRI-O know. The file is read anew for each container that
//! names a class. Classes of caches and memory bandwidth (RDT) are refused.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDeviceBuilder, LinuxWeightDeviceBuilder};
use serde::Deserialize;

use crate::{
    pod::error::Error,
    quantity,
    spec::{
        self,
        config::{ContainerConfig, Map},
    },
    yaml,
};

/// How a pod names classes for all its containers, and with a container's name for that one.
const OF_POD: [&str; 2] =
    ["blockio.resources.beta.kubernetes.io/pod", "blockio.resources.beta.kubernetes.io/container."];
/// How a container names its own.
const OF_CONTAINER: &str = "io.kubernetes.cri.blockio-class";

/// The same of classes of caches and memory bandwidth.
const RDT_OF_POD: [&str; 2] =
    ["rdt.resources.beta.kubernetes.io/pod", "rdt.resources.beta.kubernetes.io/container."];
const RDT_OF_CONTAINER: &str = "io.kubernetes.cri.rdt-class";

/// The least and the most of a weight, as the OCI runtime specification has it.
const WEIGHTS: std::ops::RangeInclusive<u16> = 10..=1000;

/// The file of classes. Its format is that of the other runtimes.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    #[serde(rename = "Classes")]
    classes: BTreeMap<String, Vec<Entry>>,
}

/// Some devices, or without any all others, and what a container may do with them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "PascalCase")]
struct Entry {
    devices: Vec<String>,
    weight: Option<Number>,
    throttle_read_bps: Option<Number>,
    throttle_write_bps: Option<Number>,
    #[serde(rename = "ThrottleReadIOPS")]
    throttle_read_iops: Option<Number>,
    #[serde(rename = "ThrottleWriteIOPS")]
    throttle_write_iops: Option<Number>,
}

/// A number, or a quantity as Kubernetes writes them.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Number {
    Whole(u64),
    Text(String),
}

impl Number {
    fn value(&self) -> Result<u64, String> {
        match self {
            Number::Whole(value) => Ok(*value),
            Number::Text(text) => quantity::whole(text)
                .ok_or_else(|| format!("{text:?} is no number; write one such as 60M")),
        }
    }
}

/// What the class of a container means; none where it names none.
///
/// # Errors
/// A class that nobody has described, or that makes no sense on this node.
pub(super) fn look_up(
    file: Option<&Path>,
    of_pod: &Map,
    config: &ContainerConfig,
) -> Result<Option<LinuxBlockIo>, Error> {
    if let Some((key, class)) = named(RDT_OF_POD, RDT_OF_CONTAINER, of_pod, config) {
        let reason = format!(
            "{key}: Criquet has no classes of caches and memory bandwidth, and {class:?} is one; \
             leave the annotation out"
        );
        return Err(spec::Error::invalid("annotations", reason).into());
    }
    let Some((key, class)) = named(OF_POD, OF_CONTAINER, of_pod, config) else { return Ok(None) };
    let wrong = |reason: String| spec::Error::invalid("annotations", format!("{key}: {reason}"));
    let Some(file) = file else {
        let reason = format!(
            "class {class:?} is not known: this node has no classes of block I/O; describe them \
             in the file of containers.blockio_config_file, or leave the annotation out"
        );
        return Err(wrong(reason).into());
    };
    let entries =
        read(file, class).map_err(|reason| wrong(format!("{}: {reason}", file.display())))?;
    let meaning = meaning_of(&entries);
    Ok(Some(meaning.map_err(|reason| wrong(format!("class {class:?}: {reason}")))?))
}

/// The annotation that counts, the nearest one.
fn named<'a>(
    [pod, container]: [&str; 2],
    own: &str,
    of_pod: &'a Map,
    config: &'a ContainerConfig,
) -> Option<(&'a str, &'a str)> {
    let of_one = format!("{container}{}", config.metadata.name);
    let pair = |map: &'a Map, key: &str| map.get_key_value(key);
    let found = pair(&config.annotations, own)
        .or_else(|| pair(of_pod, &of_one))
        .or_else(|| pair(of_pod, pod));
    found.map(|(key, class)| (key.as_str(), class.as_str())).filter(|(_, class)| !class.is_empty())
}

fn read(file: &Path, class: &str) -> Result<Vec<Entry>, String> {
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let value = yaml::value(&text)?;
    let file: File = serde_json::from_value(value).map_err(|error| error.to_string())?;
    file.classes.get(class).cloned().ok_or_else(|| {
        let known: Vec<&str> = file.classes.keys().map(String::as_str).collect();
        format!("there is no class {class:?}; there are: {}", known.join(", "))
    })
}

fn meaning_of(entries: &[Entry]) -> Result<LinuxBlockIo, String> {
    let mut meaning = LinuxBlockIo::default();
    let (mut weights, mut rates) = (Vec::new(), [const { Vec::new() }; 4]);
    for entry in entries {
        let weight = entry.weight.as_ref().map(weight_of).transpose()?;
        let limits = [
            &entry.throttle_read_bps,
            &entry.throttle_write_bps,
            &entry.throttle_read_iops,
            &entry.throttle_write_iops,
        ];
        if entry.devices.is_empty() {
            if limits.iter().any(|limit| limit.is_some()) {
                return Err("a limit needs the devices that it is for".to_owned());
            }
            meaning.set_weight(weight.or(meaning.weight()));
        }
        for (major, minor) in disks(&entry.devices)? {
            if let Some(weight) = weight {
                let device = LinuxWeightDeviceBuilder::default().major(major).minor(minor);
                weights.push(device.weight(weight).build().map_err(|error| error.to_string())?);
            }
            for (limit, rates) in limits.iter().zip(&mut rates) {
                if let Some(limit) = limit {
                    let device = LinuxThrottleDeviceBuilder::default().major(major).minor(minor);
                    let device = device.rate(limit.value()?).build();
                    rates.push(device.map_err(|error| error.to_string())?);
                }
            }
        }
    }
    let [read_bps, write_bps, read_iops, write_iops] =
        rates.map(|rates| Some(rates).filter(|rates| !rates.is_empty()));
    meaning.set_weight_device(Some(weights).filter(|weights| !weights.is_empty()));
    meaning.set_throttle_read_bps_device(read_bps).set_throttle_write_bps_device(write_bps);
    meaning.set_throttle_read_iops_device(read_iops).set_throttle_write_iops_device(write_iops);
    Ok(meaning)
}

fn weight_of(number: &Number) -> Result<u16, String> {
    let value = number.value()?;
    u16::try_from(value)
        .ok()
        .filter(|weight| WEIGHTS.contains(weight))
        .ok_or_else(|| format!("weight {value} must be between 10 and 1000"))
}

/// The numbers of whole disks, which alone the kernel shares out, by their paths. Of those that
/// a pattern matches the others are passed over.
fn disks(patterns: &[String]) -> Result<Vec<(i64, i64)>, String> {
    let mut found = Vec::new();
    for pattern in patterns {
        let before = found.len();
        for path in matching(Path::new(pattern)) {
            found.extend(disk(&path));
        }
        if found.len() == before {
            return Err(format!("{pattern:?} is no disk of this node, and matches none"));
        }
    }
    Ok(found)
}

fn disk(path: &Path) -> Option<(i64, i64)> {
    let metadata = fs::metadata(path).ok()?;
    let number = metadata.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    // Parts of a disk have this file.
    let is_part = Path::new(&format!("/sys/dev/block/{major}:{minor}/partition")).exists();
    let is_disk = metadata.file_type().is_block_device() && !is_part;
    is_disk.then_some((i64::from(major), i64::from(minor)))
}

/// The paths that match one with `*` and `?` in its last part.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) =
        (pattern.parent(), pattern.file_name().and_then(|name| name.to_str()))
    else {
        return Vec::new();
    };
    if !name.contains(['*', '?']) {
        return vec![pattern.to_owned()];
    }
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .filter(|entry| matches(name, &entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

/// Whether a name matches a pattern with `*` and `?`.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last star was, and how much of the name it has taken.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{look_up, matches};
    use crate::spec::config::{ContainerConfig, Map};

    fn map(pairs: &[(&str, &str)]) -> Map {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    fn container() -> ContainerConfig {
        let mut config = ContainerConfig::default();
        config.metadata.name = "c".to_owned();
        config
    }

    #[test]
    fn the_nearest_annotation_names_the_class() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("classes.yaml");
        let text =
            "Classes:\n  low:\n  - Weight: 10\n  mid:\n  - Weight: 50\n  top:\n  - Weight: 900\n";
        fs::write(&file, text).unwrap();
        let pod = ("blockio.resources.beta.kubernetes.io/pod", "low");
        let one = ("blockio.resources.beta.kubernetes.io/container.c", "mid");
        let other = ("blockio.resources.beta.kubernetes.io/container.d", "top");
        let weight = |annotations: &Map, config: &ContainerConfig| {
            look_up(Some(&file), annotations, config).unwrap().and_then(|io| io.weight())
        };
        let mut config = container();
        assert_eq!(weight(&map(&[]), &config), None);
        assert_eq!(weight(&map(&[pod, other]), &config), Some(10));
        assert_eq!(weight(&map(&[pod, one]), &config), Some(50));
        config.annotations = map(&[("io.kubernetes.cri.blockio-class", "top")]);
        assert_eq!(weight(&map(&[pod, one]), &config), Some(900));
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("classes.yaml");
        let text = "Classes:\n  heavy:\n  - Weight: 5000\n  bare:\n  - ThrottleReadBps: 60M\n  \
                    gone:\n  - Devices: [/dev/criquet-*]\n    ThrottleReadBps: 60M\n";
        fs::write(&file, text).unwrap();
        let key = "blockio.resources.beta.kubernetes.io/pod";
        for (class, words) in [
            ("none", "there are: bare, gone, heavy"),
            ("heavy", "between 10 and 1000"),
            ("bare", "needs the devices"),
            ("gone", "matches none"),
        ] {
            let error = look_up(Some(&file), &map(&[(key, class)]), &container()).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        let error = look_up(None, &map(&[(key, "low")]), &container()).unwrap_err();
        assert!(error.to_string().contains("containers.blockio_config_file"), "{error}");
        let rdt = map(&[("rdt.resources.beta.kubernetes.io/pod", "gold")]);
        let error = look_up(None, &rdt, &container()).unwrap_err();
        assert!(error.to_string().contains("memory bandwidth"), "{error}");
        fs::write(&file, "Classes: [1]").unwrap();
        assert!(look_up(Some(&file), &map(&[(key, "low")]), &container()).is_err());
    }

    #[test]
    fn patterns_of_names() {
        for (pattern, name, expected) in [
            ("sd*", "sda", true),
            ("sd*", "sd", true),
            ("sd?", "sda", true),
            ("sd?", "sda1", false),
            ("*a*b", "xaxxb", true),
            ("*a*b", "xaxxc", false),
            ("sd", "sda", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
