//! Ports of a pod: many connections in one session, each for itself.

mod relay;
pub mod spdy;
pub mod websocket;
