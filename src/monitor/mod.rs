//! The pod's supervisor: `criquet-monitor`, one process with one thread for each pod.
//!
//! Entry points: `server::run` is the process, `client` the daemon's side of it. The
//! monitor lives in the pod's network, IPC and UTS namespaces, is the parent of every process
//! of the pod, writes the log files and records exits. It knows neither the CRI nor images.

mod container;
mod exec;
mod init;
mod log;
pub mod pod;
pub mod record;
pub mod server;
mod sources;

#[cfg(feature = "daemon")]
pub mod client;

/// Messages between daemon and monitor, generated from `proto/monitor/v1/monitor.proto`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/criquet.monitor.v1.rs"));
}

/// The longest message in either direction, in bytes. What can be longer travels in files.
pub const MAX_MESSAGE: usize = 32 * 1024;

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
            _ => v1::Code::Internal,
        };
        v1::Failure { code: code.into(), message: error.full_message() }
    }
}
