//! The daemon's view of the monitors: those that wait, and what they tell.

pub(super) mod exits;
pub(super) mod places;
pub(super) mod take_up;
pub(super) mod warm;
