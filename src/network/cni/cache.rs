//! The results of plugins as files, for other programs of the node that look for them.
//! What this daemon itself needs is in its database.

use std::{fs, io::ErrorKind, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{super::Error, attachment::Attached};

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
        sandbox: &str,
        netns: &str,
        attached: &Attached,
        result: &Value,
    ) -> Result<(), Error> {
        let path = self.path(sandbox, attached);
        let failed = |source| Error::File { operation: "write", path: path.clone(), source };
        let configuration = json!({
            "cniVersion": attached.list.version,
            "name": attached.list.name,
            "plugins": attached.list.plugins,
        });
        let entry = json!({
            "kind": "cniCacheV1",
            "containerId": sandbox,
            "config": STANDARD.encode(configuration.to_string()),
            "ifName": attached.interface,
            "networkName": attached.list.name,
            "netns": netns,
            "result": result,
        });
        fs::create_dir_all(&self.directory).map_err(failed)?;
        let temporary = path.with_extension("new");
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
