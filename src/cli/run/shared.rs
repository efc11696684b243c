//! What the lives of all containers of a pod share.

use std::{sync::OnceLock, time::Instant};

use tokio_util::sync::CancellationToken;

use super::{events::Events, images::Images, say::Say};
use crate::{cli::node::Pods, play::Plan};

/// A pod that is run.
pub(super) struct Shared {
    pub pods: Pods,
    pub images: Images,
    pub plan: Plan,
    /// The id of the sandbox.
    pub sandbox: String,
    /// Where probes find the pod.
    pub address: String,
    pub say: Say,
    pub events: Events,
    /// Nothing is to be waited for any more.
    pub hurry: CancellationToken,
    /// When all containers are to have ended.
    pub end: OnceLock<Instant>,
    /// The pod is to end.
    pub ending: CancellationToken,
    /// The exit code of a pod that cannot go on.
    pub failure: OnceLock<i32>,
}

impl Shared {
    /// When all containers are to have ended, once the pod ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.end.get().copied()
    }

    /// The pod cannot go on, and ends with that code.
    pub(super) fn fail(&self, code: i32) {
        self.failure.get_or_init(|| code);
        self.ending.cancel();
    }
}
