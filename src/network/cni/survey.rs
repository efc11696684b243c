//! What is configured for CNI, and whether its plugins are there.

use serde_json::{Map, Value};

use super::{
    super::{Error, Options},
    chain::kind_of,
    config::read_directory,
    list::NetworkList,
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

/// The networks that pods would get; none where the built-in one takes their place.
///
/// # Errors
/// When there are configurations and none can be used.
pub fn survey(options: &Options) -> Result<Vec<CniNetwork>, Error> {
    let is_there = |plugin: &str| {
        options.cni_bin_dirs.iter().any(|directory| directory.join(plugin).is_file())
    };
    let found = read_directory(&options.cni_conf_dir, options.cni_max_conf)?;
    Ok(found
        .networks
        .into_iter()
        .map(|network| {
            let plugins: Vec<String> =
                network.plugins.iter().map(|plugin| kind_of(plugin).to_owned()).collect();
            let missing = plugins.iter().filter(|plugin| !is_there(plugin)).cloned().collect();
            CniNetwork { name: network.name, plugins, missing }
        })
        .collect())
}
