//! Faults of the system: what hangs, fills up, is lost or is killed stays where it is, and the
//! node goes on.

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod disks;
mod every_call;
mod hangs;
mod monitors;
mod networks;
mod quotas;
mod races;
mod state;
