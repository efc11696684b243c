//! How the daemon is, for a person.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    Administrator, pull,
    v1::{Condition, Count, Operation, Silent, StatusResponse, Subscribers},
};
use crate::{
    pod::{self, Counts, StorageTrouble},
    runtime::cgroup::Version,
    telemetry::{UnderWay, process::Memory},
};

/// How long the network may take to tell how it is.
const NETWORK_LIMIT: Duration = Duration::from_secs(5);

impl Administrator {
    pub(super) async fn status_now(&self) -> StatusResponse {
        let conditions = vec![
            condition("runtime", self.runtime_ready().await),
            condition("network", self.network_ready().await),
        ];
        let metrics = Arc::clone(&self.metrics);
        let read = tokio::task::spawn_blocking(move || {
            let own = Memory::of(std::process::id()).unwrap_or_default();
            let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
            (metrics.monitors(), own, kernel.trim().to_owned())
        });
        // Nothing of it panics; without it the rest is worth showing.
        let (monitors, own, kernel) = read.await.unwrap_or_default();
        let (report, options) = (self.pods.report(), self.pods.options());
        StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel,
            uptime_seconds: self.since.elapsed().as_secs(),
            socket: self.socket.display().to_string(),
            root: options.root.display().to_string(),
            state: options.state.display().to_string(),
            cgroup_version: match self.pods.cgroups() {
                Version::V1 => "v1",
                Version::V2 => "v2",
            }
            .to_owned(),
            cgroup_driver: self.pods.cgroup_driver().to_owned(),
            conditions,
            sandboxes: counts(&report.sandboxes),
            containers: counts(&report.containers),
            operations: report.operations.into_iter().map(operation).collect(),
            pulls: self.images().pulls().into_iter().map(pull::progress_out).collect(),
            subscribers: Some(Subscribers {
                count: report.readers.count as u64,
                behind: report.readers.behind,
                left_behind: report.readers.left_behind,
            }),
            silent: report.silent.into_iter().map(silent).collect(),
            pid: std::process::id(),
            memory_bytes: own.resident,
            monitors: monitors.count as u64,
            monitors_memory_bytes: monitors.memory.resident,
        }
    }

    async fn runtime_ready(&self) -> Result<(), String> {
        self.pods.storage().await.map_err(|trouble| match trouble {
            StorageTrouble::NotWritable(words) | StorageTrouble::NotAnswering(words) => words,
        })
    }

    async fn network_ready(&self) -> Result<(), String> {
        match timeout(NETWORK_LIMIT, self.pods.network().status()).await {
            Ok(result) => result.map_err(|error| crate::kind::chain(&error)),
            Err(_) => {
                let limit = NETWORK_LIMIT.as_secs();
                Err(format!("it does not tell within {limit} seconds how it is"))
            }
        }
    }
}

fn condition(name: &str, result: Result<(), String>) -> Condition {
    let is_met = result.is_ok();
    Condition { name: name.to_owned(), is_met, message: result.err().unwrap_or_default() }
}

fn counts(counts: &Counts) -> Vec<Count> {
    let out = |(state, count): (&&'static str, &usize)| Count {
        state: (*state).to_owned(),
        count: *count as u64,
    };
    counts.iter().map(out).collect()
}

fn operation(one: UnderWay) -> Operation {
    let milliseconds = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    Operation {
        name: one.name.to_owned(),
        what: one.what.to_owned(),
        id: one.id,
        age_milliseconds: milliseconds(one.age),
        stage: one.stage.to_owned(),
        stage_age_milliseconds: milliseconds(one.stage_age),
        is_stuck: one.is_stuck,
        kernel: one.kernel.unwrap_or_default(),
    }
}

fn silent(one: pod::Silent) -> Silent {
    Silent {
        id: one.id,
        stage: one.stage.to_owned(),
        message: one.words,
        seconds: one.age.as_secs(),
    }
}
