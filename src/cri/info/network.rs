//! Networks, by the names that containerd has for what it knows of them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use super::Info;
use crate::{
    kind::chain,
    network::{CniList, Network},
    pod::SandboxRecord,
};

/// How long the directory of configurations may take to be read.
const LIMIT: Duration = Duration::from_secs(5);

/// What pods get by way of CNI, and whether it could be read.
pub(super) async fn configuration(network: &Network) -> Info {
    let lists = match timeout(LIMIT, network.cni_lists()).await {
        Ok(lists) => lists.map_err(|error| chain(&error)),
        Err(_) => Err("the directory of CNI configurations does not answer".to_owned()),
    };
    let options = network.options();
    let networks = lists.as_deref().unwrap_or_default().iter().enumerate().map(one);
    let config = json!({
        "PluginDirs": options.cni_bin_dirs,
        "PluginConfDir": options.cni_conf_dir,
        "PluginMaxConfNum": options.cni_max_conf,
        "Prefix": "eth",
        "Networks": networks.collect::<Value>(),
        // Where there is no configuration of CNI.
        "Builtin": options.builtin,
    });
    let state = match &lists {
        // The built-in network takes its place.
        Ok(lists) if lists.is_empty() && !options.builtin => {
            format!("no network config found in {}", options.cni_conf_dir.display())
        }
        Ok(_) => "OK".to_owned(),
        Err(words) => words.clone(),
    };
    Info::from([
        ("cniconfig".to_owned(), config.to_string()),
        ("lastCNILoadStatus".to_owned(), state.clone()),
        ("lastCNILoadStatus.default".to_owned(), state),
    ])
}

fn one((index, list): (usize, &CniList)) -> Value {
    let plugins = list.plugins.iter().map(
        |plugin| json!({ "Network": plugin, "Source": Value::Object(plugin.clone()).to_string() }),
    );
    let source = json!({ "cniVersion": list.version, "name": list.name, "plugins": list.plugins });
    json!({
        "IFName": format!("eth{index}"),
        "Config": {
            "Name": list.name,
            "CNIVersion": list.version,
            "Plugins": plugins.collect::<Value>(),
            "Source": source.to_string(),
        },
    })
}

/// The addresses of a pod; nothing with the host's network.
pub(super) fn result(record: &SandboxRecord) -> Option<Value> {
    let netns = record.netns.as_ref()?;
    let addresses = record.addresses.iter().map(|address| json!({ "IP": address }));
    Some(json!({
        "Interfaces": {
            "eth0": { "IPConfigs": addresses.collect::<Value>(), "Sandbox": netns },
        },
    }))
}
