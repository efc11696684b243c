//! The capabilities of a supervisor between its starts.
//!
//! A container can be given any capability, and who starts it must have it to give: the
//! supervisor is permitted all that it was started with. But none is in force but those that
//! its own work needs, so that no mistake in that work, and nobody who leads it astray, has
//! more. What it clones takes the others up.

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use super::error::{During, Error};

/// What is needed between starts.
const NEEDED: CapabilitySet = CapabilitySet::SYS_ADMIN // namespaces, unmounting, devices
    .union(CapabilitySet::KILL) // processes of any user
    .union(CapabilitySet::SYS_PTRACE) // whether such a one has come to its program
    .union(CapabilitySet::DAC_OVERRIDE) // logs and cgroups in directories of any user
    .union(CapabilitySet::CHOWN); // cgroups that a pod's own root is to have

/// Leaves this process in force only what its work needs.
///
/// # Errors
/// Those of `capget(2)` and `capset(2)`.
pub fn lay_aside() -> Result<(), Error> {
    let own = capabilities(None).during("read", "capabilities")?;
    let few = CapabilitySets {
        effective: own.permitted & NEEDED,
        permitted: own.permitted,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, few).during("lay aside", "capabilities")
}

/// Puts all in force that this process is permitted: a child on its way to its program.
///
/// # Errors
/// Those of `capget(2)` and `capset(2)`.
pub fn take_up() -> Result<(), Error> {
    let own = capabilities(None).during("read", "capabilities")?;
    let all = CapabilitySets { effective: own.permitted, ..own };
    set_capabilities(None, all).during("take up", "capabilities")
}
