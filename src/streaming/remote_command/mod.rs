//! Commands with streams: exec and attach, whatever protocol the streams come through.

pub mod attach;
pub mod client;
pub mod exec;
mod input;
mod output;
mod resize;
pub mod status;

pub use client::{Client, Wanted};
