//! The streaming server: exec, attach and port forwarding over SPDY/3.1 and WebSocket.
//!
//! Entry point: `Server`. A call of the CRI gets a URL with a token from `Urls`; whoever
//! comes with it is served once. `handshake` says what is spoken, `spdy` and `websocket` carry
//! streams, `remote_command` and `port_forward` connect them with a pod. It knows no gRPC.

mod channel;
mod descriptor;
mod error;
mod handshake;
mod options;
mod port_forward;
mod queue;
pub mod remote_command;
mod serve;
mod server;
pub mod spdy;
mod tokens;
mod transport;
mod urls;
mod waiting;
pub mod websocket;

pub use channel::{Chunk, Closed};
pub use error::Error;
pub use options::Options;
pub use port_forward::websocket::MAX_PORTS;
pub use server::Server;
pub use tokens::{LIFETIME, MAX_WAITING};
pub use urls::{Request, Urls};
