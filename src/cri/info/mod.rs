//! The verbose forms of statuses: JSON for `crictl inspect`, under the names that tools of the
//! other runtimes read.

mod config;
mod network;
mod sandbox_spec;

use std::{collections::HashMap, sync::Arc};

use serde_json::{Value, json};

use crate::{
    image::{Image, ImageConfig},
    pod::{Container, ContainerPhase, Pods, Sandbox, SandboxPhase},
    telemetry::Stage,
};

type Info = HashMap<String, String>;

/// What the kubelet and crictl take in one answer is twice this.
const LONGEST: usize = 8 << 20;

fn info(value: &Value) -> Info {
    Info::from([("info".to_owned(), value.to_string())])
}

pub(super) fn sandbox(sandbox: &Sandbox) -> Info {
    let trouble = sandbox.trouble().map(|trouble| {
        json!({
            "stage": trouble.stage,
            "reason": trouble.words,
            "seconds": trouble.since.elapsed().as_secs(),
        })
    });
    let stage = stage(&sandbox.stage);
    let record = sandbox.record();
    let runs = record.phase == SandboxPhase::Ready;
    info(&json!({
        "pid": record.monitor_pid,
        "processStatus": if runs { "running" } else { "deleted" },
        "netNamespaceClosed": record.netns.is_some() && !runs,
        "trouble": trouble,
        "stage": stage,
        "runtimeHandler": record.runtime_handler,
        "runtimeType": "internal",
        "runtimeOptions": null,
        // There is no container of the sandbox itself.
        "image": "",
        "snapshotKey": "",
        "snapshotter": "",
        "config": config::of_sandbox(&record.config),
        "runtimeSpec": sandbox_spec::of(&sandbox.id, &record),
        "cniResult": network::result(&record),
        "cgroup": record.cgroup,
        "netns": record.netns,
        "addresses": record.addresses,
    }))
}

/// What a call is at, for who wonders why it takes so long.
fn stage(stage: &Stage) -> Option<Value> {
    let oldest = stage.under_way().into_iter().next()?;
    Some(json!({
        "call": oldest.name,
        "name": oldest.stage,
        "seconds": oldest.stage_age.as_secs(),
        "stuck": oldest.is_stuck,
        "kernel": oldest.kernel,
    }))
}

pub(super) async fn container(pods: &Arc<Pods>, container: &Container) -> Info {
    // Without its spec the rest is still worth showing.
    let spec = pods.spec_of(container).await.ok();
    let stage = stage(&container.stage);
    let written = pods.writable_layer(container);
    let is_removing = pods.is_being_removed(container);
    let refused = container.refused_calls();
    let record = container.record();
    let pid = match record.phase {
        ContainerPhase::Running { pid, .. } => pid,
        _ => 0,
    };
    info(&json!({
        "sandboxID": record.sandbox,
        "pid": pid,
        "removing": is_removing,
        "snapshotKey": container.id,
        "snapshotter": "overlay",
        "runtimeType": "internal",
        "runtimeOptions": null,
        "config": config::of_container(&record.config),
        "cgroup": record.cgroup,
        "runtimeSpec": spec.as_deref(),
        "stage": stage,
        "refusedSystemCalls": refused,
        "writableLayer": written.map(|measured| {
            json!({ "usedBytes": measured.usage.bytes, "inodesUsed": measured.usage.inodes })
        }),
    }))
}

/// Of the daemon. Each value is JSON by itself but for the state of CNI, as others have it.
pub(super) async fn daemon(pods: &Pods) -> Info {
    let (options, rules) = (pods.options(), pods.rules());
    let config = json!({
        "root": options.root,
        "state": options.state,
        "netnsDir": options.netns_dir,
        "cgroupParent": options.cgroup_parent,
        "cgroupDriver": pods.cgroup_driver(),
        "runtimeHandlers": rules.handlers,
        "shmSize": options.shm_size,
        "writableLayerLimit": options.writable_layer_limit,
        "apparmorProfile": pods.apparmor_profile(),
        "apparmorTrouble": pods.apparmor_trouble(),
        "seccompDefault": rules.seccomp_default,
        "version": env!("CARGO_PKG_VERSION"),
    });
    let versions = json!({ "criquet": env!("CARGO_PKG_VERSION"), "cri": "v1" });
    let mut info = Info::from([
        ("config".to_owned(), config.to_string()),
        ("versions".to_owned(), versions.to_string()),
    ]);
    info.extend(network::configuration(pods.network()).await);
    info
}

pub(super) fn image(image: &Image) -> Info {
    let whole = info(&json!({ "imageSpec": { "config": *image.config } }));
    if whole.values().all(|text| text.len() <= LONGEST) {
        return whole;
    }
    // With what a stranger wrote at length left out, it is an answer that clients take.
    let config = ImageConfig {
        architecture: image.config.architecture.clone(),
        os: image.config.os.clone(),
        ..ImageConfig::default()
    };
    info(&json!({ "imageSpec": { "config": config }, "truncated": true }))
}
