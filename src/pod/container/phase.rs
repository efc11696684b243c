//! Where a container is in its life.

use serde::{Deserialize, Serialize};

/// Where a container is in its life. Times are nanoseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerPhase {
    /// Its program has not been started.
    Created,
    /// Its program runs.
    Running {
        /// Its first process, in the host's PID namespace.
        pid: i32,
        /// When.
        started_at: i64,
    },
    /// It has ended.
    Exited {
        /// When it was started; 0 if it never ran.
        started_at: i64,
        /// When it ended.
        finished_at: i64,
        /// 128 + n where signal n ended it.
        exit_code: i32,
        /// `Completed`, `Error`, `OOMKilled`, `SeccompKilled`, `StartError`,
        /// `ContainerStatusUnknown`.
        reason: String,
        /// More words, where there are some.
        message: String,
    },
}

impl ContainerPhase {
    pub(in crate::pod) fn name(&self) -> &'static str {
        match self {
            ContainerPhase::Created => "created",
            ContainerPhase::Running { .. } => "running",
            ContainerPhase::Exited { .. } => "exited",
        }
    }
}
