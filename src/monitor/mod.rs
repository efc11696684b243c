//! The pod's supervisor: `criquet-monitor`, one process with one thread for each pod.
//!
//! Entry points: `server::run` is the process, `client` the daemon's side of it. The
//! monitor lives in the pod's network, IPC and UTS namespaces, is the parent of every process
//! of the pod, writes the log files and records exits. It knows neither the CRI nor images.

mod container;
mod envelope;
mod exec;
mod init;
mod log;
pub mod pod;
mod rate;
pub mod record;
mod refusals;
pub mod server;
mod sources;
mod way;

#[cfg(feature = "daemon")]
pub mod client;

/// Messages between daemon and monitor, generated from `proto/monitor/v1/monitor.proto`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/criquet.monitor.v1.rs"));
}

/// The longest message on a socket, in either direction, in bytes. What is longer travels in
/// a file in memory ([`envelope`]).
const MAX_MESSAGE: usize = 32 * 1024;

/// Counts changes of the protocol that its rules do not cover. A daemon speaks with monitors
/// that are one ahead of it and one behind it; one that tells nothing of it counts as 0.
pub const PROTOCOL: u32 = 1;

/// How long a container or an exec may take to its program. Nobody waits longer: it is what
/// the kubelet gives each call (`--runtime-request-timeout`).
const START_LIMIT: Duration = Duration::from_secs(120);

/// How long the kernel may take to end a pod's processes.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

use std::time::Duration;

use crate::runtime;

impl From<&runtime::Error> for v1::Failure {
    fn from(error: &runtime::Error) -> Self {
        use crate::kind::Kind;
        let code = match error.kind() {
            Kind::InvalidArgument => v1::Code::InvalidArgument,
            Kind::FailedPrecondition => v1::Code::FailedPrecondition,
            Kind::ResourceExhausted => v1::Code::ResourceExhausted,
            Kind::NotFound => v1::Code::NotFound,
            Kind::Unimplemented => v1::Code::Unimplemented,
            Kind::DeadlineExceeded => v1::Code::DeadlineExceeded,
            _ => v1::Code::Internal,
        };
        v1::Failure { code: code.into(), message: error.full_message() }
    }
}
