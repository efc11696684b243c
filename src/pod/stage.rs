//! Operations on pods and containers, as `telemetry` shows them: named after the call of the
//! CRI that they belong to, so that people find their way.

use super::{Container, Pods, error::Error, sandbox::Sandbox};
use crate::telemetry::Operation;

/// All operations, by name.
pub const OPERATIONS: [&str; 13] = [
    "RunPodSandbox",
    "StopPodSandbox",
    "RemovePodSandbox",
    "UpdatePodSandboxResources",
    "CreateContainer",
    "StartContainer",
    "StopContainer",
    "RemoveContainer",
    "UpdateContainerResources",
    "ReopenContainerLog",
    "ExecSync",
    "Exec",
    "PullImage",
];

/// What an operation is about.
const SANDBOX: &str = "sandbox";
const CONTAINER: &str = "container";
const IMAGE: &str = "image";

impl Pods {
    /// Begins an operation on a sandbox.
    pub(super) fn on_sandbox(&self, name: &'static str, sandbox: &Sandbox) -> Operation {
        let id = sandbox.id.as_str();
        let operation = self.parts.operations.begin(name, SANDBOX, id, Some(&sandbox.stage));
        operation.waits_for(sandbox.monitor_pid());
        operation
    }

    /// Begins an operation on a container.
    pub(super) fn on_container(&self, name: &'static str, container: &Container) -> Operation {
        let id = container.id.as_str();
        let operation = self.parts.operations.begin(name, CONTAINER, id, Some(&container.stage));
        let sandbox = self.sandbox_of(container).ok();
        operation.waits_for(sandbox.and_then(|sandbox| sandbox.monitor_pid()));
        operation
    }

    /// Begins an operation on what has no object yet.
    pub(super) fn on_new(&self, name: &'static str, what: &'static str, id: &str) -> Operation {
        self.parts.operations.begin(name, what, id, None)
    }

    /// Begins an operation on an image.
    pub(super) fn on_image(&self, name: &'static str, reference: &str) -> Operation {
        self.parts.operations.begin(name, IMAGE, reference, None)
    }
}

/// Ends an operation with the outcome of its work.
pub(super) fn ended<T>(operation: Operation, outcome: Result<T, Error>) -> Result<T, Error> {
    if let Err(error) = &outcome {
        operation.failed(error.kind());
    }
    drop(operation);
    outcome
}
