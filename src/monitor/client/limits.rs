//! How long each call may take.
//!
//! Most are answered at once, and are given what a busy machine may need. Those that wait for
//! something of the pod have a limit in the monitor itself, which tells more when it answers.

use std::time::Duration;

use crate::monitor::{SHUTDOWN_LIMIT, START_LIMIT, v1::request::Call};

/// What an answer may take that waits for nothing.
const AT_ONCE: Duration = Duration::from_secs(10);

/// What an answer may take that waits for the kernel to make or remove something.
const KERNEL: Duration = Duration::from_secs(30);

/// The name of a call, and its limit.
pub(super) fn of(call: &Call) -> (&'static str, Duration) {
    match call {
        Call::Setup(_) => ("setup", KERNEL),
        Call::Prepare(_) => ("prepare", KERNEL),
        Call::State(_) => ("state", AT_ONCE),
        Call::Start(_) | Call::StartExtended(_) => ("start", START_LIMIT + AT_ONCE),
        Call::Exec(_) => ("exec", START_LIMIT + AT_ONCE),
        // Before the grace is over nothing else would be better for the container.
        Call::Stop(stop) => ("stop", AT_ONCE.saturating_add(Duration::from_millis(stop.timeout))),
        Call::ReopenLog(_) => ("reopen log", KERNEL),
        Call::Update(_) => ("update", KERNEL),
        Call::Delete(_) => ("delete", KERNEL),
        Call::KillExec(_) => ("kill exec", AT_ONCE),
        Call::Shutdown(_) => ("shutdown", SHUTDOWN_LIMIT + AT_ONCE),
        Call::Attach(_) => ("attach", AT_ONCE),
        Call::CloseInput(_) => ("close input", AT_ONCE),
    }
}
