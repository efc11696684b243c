//! The results of plugins as files, for other programs of the node that look for them: in the
//! form, and by default in the place, of the specification's own library (`cniCacheV1`).
//! What this daemon itself needs is in its database. Where that is lost, these files still tell
//! what is to be taken down: each says by its root which daemon has written it.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    super::{Error, Options, request::PodRequest},
    attachment::Attached,
    capability,
    list::parse,
};

/// The kind of an entry, as other programs know it.
const KIND: &str = "cniCacheV1";

/// The directory of results.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    directory: PathBuf,
    /// The root of the daemon that writes.
    root: PathBuf,
}

/// What a file says of an attachment; others write fewer fields.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    kind: String,
    /// The sandbox.
    pub(super) container_id: String,
    /// The interface inside the pod.
    pub(super) if_name: String,
    /// The network.
    pub(super) network_name: String,
    #[serde(default)]
    config: String,
    #[serde(default)]
    cni_args: Vec<[String; 2]>,
    #[serde(default)]
    capability_args: Option<Map<String, Value>>,
    #[serde(default)]
    result: Option<Value>,
    /// The root of the daemon that has written it; none of another program's.
    #[serde(default)]
    criquet_root: Option<PathBuf>,
}

impl Entry {
    /// The attachment, as it is to be taken back; none where the configuration cannot be read.
    pub(super) fn attached(&self) -> Option<Attached> {
        let configuration = STANDARD.decode(&self.config).ok()?;
        let list = parse(&configuration, true).ok()?.network;
        Some(Attached { list, interface: self.if_name.clone(), result: self.result.clone() })
    }

    /// The value of `CNI_ARGS`.
    pub(super) fn arguments(&self) -> String {
        let pairs = self.cni_args.iter().map(|[key, value]| format!("{key}={value}"));
        pairs.collect::<Vec<_>>().join(";")
    }

    /// What was known about the pod, by capability.
    pub(super) fn values(&self) -> Map<String, Value> {
        self.capability_args.clone().unwrap_or_default()
    }
}

impl Cache {
    pub(super) fn new(options: &Options) -> Self {
        Self { directory: options.cache_dir.join("results"), root: options.root.clone() }
    }

    /// All attachments that files tell of, whoever has written them. A file that says something
    /// else is passed by.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, Error> {
        let failed =
            |source| Error::File { operation: "read", path: self.directory.clone(), source };
        let files = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            files => files.map_err(failed)?,
        };
        let paths = files.flatten().map(|file| file.path());
        // One that was being written when its writer ended is not whole.
        let is_whole = |path: &PathBuf| path.extension().is_none_or(|ending| ending != "new");
        Ok(paths.filter(is_whole).filter_map(|path| read(&path)).collect())
    }

    /// Whether this daemon, or an earlier one of its root, has written the entry.
    pub(super) fn is_own(&self, entry: &Entry) -> bool {
        entry.criquet_root.as_ref() == Some(&self.root)
    }

    /// Writes the result of a network.
    pub(super) fn write(
        &self,
        pod: &PodRequest,
        netns: &str,
        attached: &Attached,
        values: &Map<String, Value>,
        result: &Value,
    ) -> Result<(), Error> {
        let path = self.path(&pod.sandbox_id, attached);
        let failed = |source| Error::File { operation: "write", path: path.clone(), source };
        let list = &attached.list;
        let configuration =
            json!({ "cniVersion": list.version, "name": list.name, "plugins": list.plugins });
        let entry = json!({
            "kind": KIND,
            "containerId": pod.sandbox_id,
            "config": STANDARD.encode(configuration.to_string()),
            "ifName": attached.interface,
            "networkName": list.name,
            "netns": netns,
            "cniArgs": capability::arguments(pod).map(|(key, value)| [key, value]),
            "capabilityArgs": values,
            "result": result,
            "criquetRoot": self.root,
        });
        fs::create_dir_all(&self.directory).map_err(failed)?;
        // Names may hold dots: nothing of them is an ending.
        let mut temporary = path.clone().into_os_string();
        temporary.push(".new");
        fs::write(&temporary, entry.to_string()).map_err(failed)?;
        fs::rename(&temporary, &path).map_err(failed)
    }

    /// Removes the result of a network, if it is there.
    pub(super) fn remove(&self, sandbox: &str, attached: &Attached) -> Result<(), Error> {
        let path = self.path(sandbox, attached);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| Error::File { operation: "remove", path, source }),
        }
    }

    fn path(&self, sandbox: &str, attached: &Attached) -> PathBuf {
        let sandbox = sandbox.replace('/', "_");
        self.directory.join(format!("{}-{sandbox}-{}", attached.list.name, attached.interface))
    }
}

/// No configuration and result together are longer.
const LIMIT: u64 = 4 << 20;

fn read(path: &Path) -> Option<Entry> {
    use std::io::Read as _;
    if !fs::symlink_metadata(path).ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    fs::File::open(path).ok()?.take(LIMIT).read_to_end(&mut text).ok()?;
    let entry: Entry = serde_json::from_slice(&text).ok()?;
    (entry.kind == KIND).then_some(entry)
}
