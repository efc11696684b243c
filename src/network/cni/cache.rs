//! The results of plugins as files, for other programs of the node that look for them: in the
//! form, and by default in the place, of the specification's own library (`cniCacheV1`).
//! What this daemon itself needs is in its database.

use std::{fs, io::ErrorKind, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use super::{
    super::{Error, request::PodRequest},
    attachment::Attached,
    capability,
};

/// The directory of results.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    directory: PathBuf,
}

impl Cache {
    pub(super) fn new(cache_dir: &std::path::Path) -> Self {
        Self { directory: cache_dir.join("results") }
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
            "kind": "cniCacheV1",
            "containerId": pod.sandbox_id,
            "config": STANDARD.encode(configuration.to_string()),
            "ifName": attached.interface,
            "networkName": list.name,
            "netns": netns,
            "cniArgs": capability::arguments(pod).map(|(key, value)| [key, value]),
            "capabilityArgs": values,
            "result": result,
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
