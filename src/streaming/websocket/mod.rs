//! WebSockets: the channel protocol of Kubernetes, and a tunnel for SPDY.
//!
//! Frames and their masks are the business of `tungstenite`. A message of a client is bounded;
//! what is in it is handed on in pieces.

pub mod codec;
mod session;
mod tunnel;

pub use session::{Agreement, Outgoing, Session, accept};
pub use tunnel::Tunnel;
