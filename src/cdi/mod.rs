//! Devices by the Container Device Interface: vendors describe in files what a container needs
//! for a device, and containers name devices (`vendor.com/class=name`).
//!
//! Entry points: [`names`] and [`resolve`]. The files are read anew for each container that
//! names a device: they are small, change when devices come and go, and others need none of it.

mod document;
mod error;
mod host;
mod name;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::spec::{config::Map, edits::ContainerEdits};
use document::{Device, Document};
pub use error::Error;

/// Annotations of a container that name devices begin so.
const ANNOTATION: &str = "cdi.k8s.io/";

/// The devices that a container names: those of its own field, then those of its annotations,
/// none twice.
///
/// # Errors
/// A name that is none.
pub fn names(field: &[String], annotations: &Map) -> Result<Vec<String>, Error> {
    let annotated = annotations.iter().filter(|(key, _)| key.starts_with(ANNOTATION));
    let annotated = annotated.flat_map(|(_, value)| value.split(','));
    let mut known = BTreeSet::new();
    let all = field.iter().map(String::as_str).chain(annotated);
    let names: Vec<String> = all.filter(|name| known.insert(*name)).map(str::to_owned).collect();
    names.iter().try_for_each(|device| name::parse(device).map(drop))?;
    Ok(names)
}

/// What the named devices change of a container, in the order in which it is done. Of two
/// descriptions the one in the later directory counts. Waits for the disk.
///
/// # Errors
/// A device that nobody describes, or two in one directory; one that the host does not have.
pub fn resolve(directories: &[PathBuf], names: &[String]) -> Result<Vec<ContainerEdits>, Error> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let registry = Registry::read(directories);
    let mut edits = Vec::new();
    let mut seen = BTreeSet::new();
    for device in names {
        let (place, found) = registry.find(device, directories)?;
        // What belongs to all devices of a file comes once.
        if seen.insert(place) {
            edits.push(filled(&registry.files[place].document.container_edits, device)?);
        }
        edits.push(filled(&found.container_edits, device)?);
    }
    Ok(edits)
}

fn filled(edits: &ContainerEdits, device: &str) -> Result<ContainerEdits, Error> {
    let refused =
        |what, reason| Err(Error::Unsupported { device: device.to_owned(), what, reason });
    let has_resctrl = || Path::new("/sys/fs/resctrl/schemata").exists();
    match &edits.intel_rdt {
        Some(_) if !has_resctrl() => {
            return refused("intelRdt", "and /sys/fs/resctrl is not mounted on this node");
        }
        Some(_) => return refused("intelRdt", "and classes are not joined yet; leave it out"),
        None => {}
    }
    if !edits.net_devices.is_empty() {
        return refused("netDevices", "which are not moved yet; leave them out");
    }
    let mut edits = edits.clone();
    for node in &mut edits.device_nodes {
        host::fill(node, device)?;
    }
    Ok(edits)
}

/// A specification that can be used.
struct Described {
    path: PathBuf,
    /// The place of its directory in the list; later ones go first.
    priority: usize,
    document: Document,
}

#[derive(Default)]
struct Registry {
    files: Vec<Described>,
    /// The files of each kind of devices.
    kinds: BTreeMap<String, Vec<usize>>,
    problems: Vec<String>,
}

impl Registry {
    /// A file that cannot be used takes none of the others along.
    fn read(directories: &[PathBuf]) -> Self {
        let mut registry = Self::default();
        for (priority, directory) in directories.iter().enumerate() {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
            let has_extension = |path: &PathBuf| {
                path.extension().is_some_and(|extension| extension == "json" || extension == "yaml")
            };
            paths.retain(has_extension);
            paths.sort();
            for path in paths {
                registry.add(path, priority);
            }
        }
        registry
    }

    fn add(&mut self, path: PathBuf, priority: usize) {
        match Document::read(&path) {
            Ok(document) => {
                let files = self.kinds.entry(document.kind.clone()).or_default();
                files.push(self.files.len());
                self.files.push(Described { path, priority, document });
            }
            Err(reason) => self.problems.push(format!("{}: {reason}", path.display())),
        }
    }

    fn find(&self, device: &str, directories: &[PathBuf]) -> Result<(usize, &Device), Error> {
        let (kind, name) = name::parse(device)?;
        let of_kind = self.kinds.get(kind).into_iter().flatten().copied();
        let found: Vec<(usize, &Device)> = of_kind
            .filter_map(|place| {
                let devices = &self.files[place].document.devices;
                Some((place, devices.iter().find(|device| device.name == name)?))
            })
            .collect();
        let highest = found.iter().map(|(place, _)| self.files[*place].priority).max();
        let best: Vec<_> = found
            .into_iter()
            .filter(|(place, _)| Some(self.files[*place].priority) == highest)
            .collect();
        match best.as_slice() {
            [only] => Ok(*only),
            [] => Err(Error::Unknown {
                device: device.to_owned(),
                directories: join(directories),
                problems: self.told_problems(),
            }),
            [(first, _), (second, _), ..] => Err(Error::Conflict {
                device: device.to_owned(),
                first: self.files[*first].path.clone(),
                second: self.files[*second].path.clone(),
            }),
        }
    }

    fn told_problems(&self) -> String {
        match self.problems.as_slice() {
            [] => String::new(),
            problems => format!("; these cannot be used: {}", problems.join("; ")),
        }
    }
}

fn join(directories: &[PathBuf]) -> String {
    let texts: Vec<_> = directories.iter().map(|path| path.display().to_string()).collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::{Error, names, resolve};
    use crate::kind::Kind;

    fn file(value: &str, device: &str) -> String {
        format!(
            r#"{{"cdiVersion":"0.5.0","kind":"v.com/gpu","containerEdits":{{"env":["ALL={value}"]}},
            "devices":[{{"name":"{device}","containerEdits":{{"env":["ONE={value}"]}}}},
            {{"name":"other-{value}","containerEdits":{{"env":["OTHER={value}"]}}}}]}}"#
        )
    }

    fn directories(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let directory = tempfile::tempdir().unwrap();
        let both = ["low", "high"].map(|name| directory.path().join(name));
        both.iter().for_each(|path| fs::create_dir(path).unwrap());
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        (directory, both.into())
    }

    fn environment(directories: &[PathBuf], devices: &[&str]) -> Result<Vec<String>, Error> {
        let names: Vec<String> = devices.iter().map(|name| format!("v.com/gpu={name}")).collect();
        let edits = resolve(directories, &names)?;
        Ok(edits.into_iter().flat_map(|edits| edits.env).collect())
    }

    #[test]
    fn the_later_directory_goes_first_and_common_edits_come_once() {
        let (low, high) = (file("low", "a"), file("high", "a"));
        let (_kept, directories) = directories(&[("low/x.json", &low), ("high/y.json", &high)]);
        let found = environment(&directories, &["a", "other-high", "other-low"]).unwrap();
        assert_eq!(found, ["ALL=high", "ONE=high", "OTHER=high", "ALL=low", "OTHER=low"]);
    }

    #[test]
    fn two_descriptions_in_one_directory_are_a_conflict() {
        let (one, two) = (file("one", "a"), file("two", "a"));
        let files = [("high/x.json", one.as_str()), ("high/y.json", &two), ("low/z.json", &one)];
        let (_kept, directories) = directories(&files);
        let error = environment(&directories, &["a"]).unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{error}");
        assert_eq!(environment(&directories, &["other-two"]).unwrap().len(), 2);
    }

    #[test]
    fn an_unknown_device_is_told_with_the_directories_and_what_is_broken() {
        let one = file("one", "a");
        let files = [("high/x.json", "{"), ("low/y.json", &one), ("high/.z.yaml.swp", "")];
        let (_kept, directories) = directories(&files);
        assert_eq!(environment(&directories, &["a"]).unwrap().len(), 2);
        let error = environment(&directories, &["b"]).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        let words = error.to_string();
        for part in ["v.com/gpu=b", "/low, ", "/high", "x.json: EOF"] {
            assert!(words.contains(part), "{words}");
        }
    }

    #[test]
    fn names_come_from_the_field_and_from_annotations() {
        let annotations = [("cdi.k8s.io/x", "v/c=2,v/c=1"), ("other", "v/c=3")];
        let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let all = names(&["v/c=1".to_owned()], &annotations.into()).unwrap();
        assert_eq!(all, ["v/c=1", "v/c=2"]);
        let error = names(&["/dev/x".to_owned()], &Default::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
    }

    #[test]
    fn nodes_are_filled_from_the_host() {
        let text = |node: &str| {
            format!(
                r#"{{"cdiVersion":"0.5.0","kind":"v.com/gpu","devices":[{{"name":"a",
                "containerEdits":{{"deviceNodes":[{node}]}}}}]}}"#
            )
        };
        let resolved = |node: &str| {
            let (_kept, directories) = directories(&[("low/x.json", &text(node))]);
            let edits = resolve(&directories, &["v.com/gpu=a".to_owned()])?;
            Ok::<_, Error>(edits.last().unwrap().device_nodes[0].clone())
        };
        let node = resolved(r#"{"path":"/dev/x","hostPath":"/dev/null"}"#).unwrap();
        assert_eq!((node.kind.as_str(), node.major, node.minor), ("c", 1, 3));
        assert_eq!(node.file_mode, Some(0o666));
        let error = resolved(r#"{"path":"/dev/x","hostPath":"/dev/null","type":"b"}"#).unwrap_err();
        assert!(error.to_string().contains("/dev/null"), "{error}");
        assert_eq!(
            resolved(r#"{"path":"/dev/does-not-exist"}"#).unwrap_err().kind(),
            Kind::FailedPrecondition
        );
        assert!(resolved(r#"{"path":"/dev/does-not-exist","type":"c","major":9}"#).is_ok());
    }
}
