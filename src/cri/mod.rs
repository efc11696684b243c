//! The gRPC services of the CRI.

/// The wire types and services, generated from `proto/runtime/v1/api.proto`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");

    /// The compiled descriptor of the interface.
    pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cri-descriptor.bin"));
}
