//! SPDY/3.1 as Kubernetes uses it: one connection, a few streams that the client opens.
//!
//! Entry point: [`Session`]. Strict in what it takes, bounded in what it keeps: a session has
//! a limited number of streams, each with a queue of a few pieces; when one is full the
//! connection is not read. Knows nothing of commands and ports.

pub mod decoder;
mod dictionary;
mod error;
mod flow;
pub mod frame;
pub mod headers;
mod session;
mod writer;

pub use error::Error;
pub use session::{Limits, Session, Stream};
pub use writer::{Credit, Outgoing};
