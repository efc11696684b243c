//! One line of the report.

use std::{
    fmt::Display,
    io,
    thread::{self, JoinHandle},
};

use serde::Serialize;

/// What a finding means for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Pods run, and some of them will miss it.
    Warn,
    /// Pods cannot run.
    Fail,
}

/// What was looked at, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it means.
    pub status: Status,
    /// What was looked at.
    pub what: &'static str,
    /// What is there, or what the kernel says.
    pub found: String,
    /// What to do; empty where nothing is to be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mend: String,
}

impl Finding {
    /// As it should be.
    pub(super) fn ok(what: &'static str, found: impl Display) -> Self {
        Self { status: Status::Ok, what, found: found.to_string(), mend: String::new() }
    }

    /// Some pods will miss it.
    pub(super) fn warn(what: &'static str, found: impl Display, mend: impl Display) -> Self {
        Self { status: Status::Warn, what, found: found.to_string(), mend: mend.to_string() }
    }

    /// Pods cannot run.
    pub(super) fn fail(what: &'static str, found: impl Display, mend: impl Display) -> Self {
        Self { status: Status::Fail, ..Self::warn(what, found, mend) }
    }

    /// Something that was tried and is required.
    pub(super) fn required(what: &'static str, tried: io::Result<()>, mend: &str) -> Self {
        match tried {
            Ok(()) => Self::ok(what, "works"),
            Err(error) => Self::fail(what, &error, mend_of(&error, mend)),
        }
    }

    /// Something that was tried and only some pods need.
    pub(super) fn useful(what: &'static str, tried: io::Result<()>, mend: &str) -> Self {
        match tried {
            Ok(()) => Self::ok(what, "works"),
            Err(error) => Self::warn(what, &error, mend_of(&error, mend)),
        }
    }
}

/// Where the kernel refuses somebody, it may well have what was asked for.
fn mend_of<'a>(error: &io::Error, otherwise: &'a str) -> &'a str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run as root of the machine, not in a container",
        _ => otherwise,
    }
}

/// Tries something in a thread of its own: what it changes of itself, such as its namespaces
/// or its filter, ends with it.
pub(super) fn aside<T: Send + 'static>(
    attempt: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    thread::Builder::new()
        .spawn(attempt)
        .map(JoinHandle::join)?
        .unwrap_or_else(|_| Err(io::Error::other("the attempt ended in a panic")))
}
