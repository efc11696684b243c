//! The verbose forms of statuses: JSON for `crictl inspect`, under the names that tools of the
//! other runtimes read.

use std::{collections::HashMap, sync::Arc};

use serde_json::{Value, json};

use crate::{
    image::Image,
    pod::{Container, ContainerPhase, Pods, Sandbox},
};

type Info = HashMap<String, String>;

fn info(value: &Value) -> Info {
    Info::from([("info".to_owned(), value.to_string())])
}

pub(super) fn sandbox(sandbox: &Sandbox) -> Info {
    let record = sandbox.record();
    info(&json!({
        "pid": record.monitor_pid,
        "processStatus": "running",
        "netNamespaceClosed": record.netns.as_ref().is_some_and(|path| !path.exists()),
        "runtimeHandler": record.runtime_handler,
        "runtimeType": "internal",
        "config": record.config,
        "cgroup": record.cgroup,
        "netns": record.netns,
        "addresses": record.addresses,
    }))
}

pub(super) fn container(pods: &Arc<Pods>, container: &Container) -> Info {
    // Without its spec the rest is still worth showing.
    let spec = pods.spec_of(container).ok();
    let record = container.record();
    let pid = match record.phase {
        ContainerPhase::Running { pid, .. } => pid,
        _ => 0,
    };
    info(&json!({
        "sandboxID": record.sandbox,
        "pid": pid,
        "removing": false,
        "snapshotKey": container.id,
        "snapshotter": "overlay",
        "runtimeType": "internal",
        "config": record.config,
        "cgroup": record.cgroup,
        "runtimeSpec": spec.as_deref(),
        "writableLayer": pods.writable_layer(container).map(|measured| {
            json!({ "usedBytes": measured.usage.bytes, "inodesUsed": measured.usage.inodes })
        }),
    }))
}

pub(super) fn image(image: &Image) -> Info {
    info(&json!({ "imageSpec": { "config": *image.config } }))
}
