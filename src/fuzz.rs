//! What `fuzz/` feeds with bytes; no interface for anybody else.

pub use crate::image::fuzz::{archive, hosts_toml, manifest, policy, reference, whiteouts};
