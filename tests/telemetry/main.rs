//! What the daemon tells of itself: figures, status, traces.

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod http;
mod metrics;
mod prometheus;
mod status;
mod traces;
