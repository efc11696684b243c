//! What is configured for CNI, and whether its plugins are there.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    super::{Error, Options},
    chain::kind_of,
    config::read_directory,
    list::NetworkList,
    plugin::Call,
};

/// A CNI network that pods would get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniNetwork {
    /// Its name.
    pub name: String,
    /// Its plugins in their order.
    pub plugins: Vec<String>,
    /// Those that are in none of the directories.
    pub missing: Vec<String>,
    /// The version of the specification that it is written for.
    pub version: String,
    /// The plugins that say that they do not know this version.
    pub too_old: Vec<String>,
}

/// The configuration of a CNI network.
#[derive(Debug, Clone, PartialEq)]
pub struct CniList {
    /// Its name.
    pub name: String,
    /// The version of the specification it is written for.
    pub version: String,
    /// What its plugins are given, in their order.
    pub plugins: Vec<Map<String, Value>>,
}

impl From<NetworkList> for CniList {
    fn from(list: NetworkList) -> Self {
        Self { name: list.name, version: list.version, plugins: list.plugins }
    }
}

/// How long a plugin may take to say which versions it knows.
const LIMIT: Duration = Duration::from_secs(5);

/// The networks that pods would get; none where the built-in one takes their place. Plugins are
/// executed, with `VERSION`.
///
/// # Errors
/// When there are configurations and none can be used.
pub fn survey(options: &Options) -> Result<Vec<CniNetwork>, Error> {
    let is_there = |plugin: &str| {
        options.cni_bin_dirs.iter().any(|directory| directory.join(plugin).is_file())
    };
    let found = read_directory(&options.cni_conf_dir, options.cni_max_conf)?;
    let one = |network: NetworkList| {
        let plugins: Vec<String> =
            network.plugins.iter().map(|plugin| kind_of(plugin).to_owned()).collect();
        let (there, missing): (Vec<String>, Vec<String>) =
            plugins.iter().cloned().partition(|plugin| is_there(plugin));
        let is_too_old =
            |plugin: &String| !speaks(options, plugin, &network.version).unwrap_or(true);
        let too_old = there.into_iter().filter(is_too_old).collect();
        CniNetwork { name: network.name, plugins, missing, version: network.version, too_old }
    };
    Ok(found.networks.into_iter().map(one).collect())
}

/// Whether a plugin knows a version; none where it does not tell.
fn speaks(options: &Options, plugin: &str, version: &str) -> Option<bool> {
    let call = Call {
        verb: "VERSION",
        environment: &[],
        directories: &options.cni_bin_dirs,
        limit: LIMIT,
        mark: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let question = json!({ "cniVersion": version });
    let answer = runtime.block_on(call.execute(plugin, &question)).ok()??;
    let supported = answer.get("supportedVersions")?.as_array()?;
    Some(supported.iter().any(|known| known == version))
}
