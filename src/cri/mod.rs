//! The gRPC services of the CRI: they validate, translate between protobuf and Criquet's own
//! types, and map errors to gRPC codes. How anything is done is not known here.

mod attributes;
mod chunks;
pub mod convert;
mod deadline;
mod encoded;
mod image;
mod info;
mod items;
mod metrics;
mod node;
mod runtime;
mod status;

pub use attributes::{
    ContainerAttributes, PlainContainerAttributes, PlainPodSandboxAttributes, PodSandboxAttributes,
};
pub use deadline::DeadlineLayer;
pub use encoded::Encoded;
pub use image::ImageServer;
pub use items::{ContainerItem, PlainContainerItem, PlainPodSandboxItem, PodSandboxItem};
pub use metrics::{PlainPodSandboxMetrics, PodSandboxMetrics};
pub use runtime::RuntimeServer;

/// The wire types and services, generated from `proto/runtime/v1/api.proto`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");

    /// The compiled descriptor of the interface.
    pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cri-descriptor.bin"));
}

#[cfg(test)]
mod tests;
