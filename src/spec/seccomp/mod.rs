//! Filters of system calls: the profile `RuntimeDefault`, and profiles from files.
//!
//! Entry points: [`default_profile`] and [`parse`]. Both give what the spec holds; the
//! runtime compiles it.

mod condition;
mod default;
mod names;
mod parse;

pub use condition::{Machine, version};
pub use default::default_profile;
pub use parse::{Parsed, parse};
