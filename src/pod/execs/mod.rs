//! Commands in containers that run.

mod exec;
mod exec_sync;

pub use exec::{Exec, ExecRequest};
pub use exec_sync::{ExecOutput, MAX_OUTPUT};
