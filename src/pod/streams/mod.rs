//! What clients of streams reach in a pod.

mod attach;
mod port_forward;

pub use attach::Attachment;
