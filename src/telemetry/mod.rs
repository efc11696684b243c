//! What the daemon tells of itself: what is under way and at which stage, figures for
//! Prometheus, traces over OTLP.
//!
//! Entry points: `Operations`, in which every call that can be long notes where it is; `Calls`,
//! the layer around the gRPC services; `endpoint`, where Prometheus comes in; `Tracing`, which
//! sends spans. The module knows nobody whom it tells about: they tell it.

mod calls;
mod code;
pub mod endpoint;
mod figures;
mod kernel;
mod methods;
mod operation;
pub mod process;
#[cfg(test)]
mod tests;
mod trace;

pub use calls::Calls;
pub use figures::{ExecResult, Figures};
pub use methods::Method;
pub use operation::{Operation, Operations, STUCK, Stage, UnderWay};
pub use trace::{Options as TracingOptions, Tracing, inherited};
