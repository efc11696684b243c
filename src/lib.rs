// SPDX-License-Identifier: Apache-2.0
//! Criquet, a Kubernetes CRI runtime with the container runtime inside.
//!
//! Who may know whom:
//!
//! ```text
//! cli ─► cri ─► pod ─► { spec, image, network, stats, store, monitor::client }
//!         └► streaming ─► pod     monitor (server) ─► runtime ─► sys
//! ```
//!
//! Nothing below `cri` sees a protobuf type of the CRI; `runtime`, `sys` and the
//! monitor see neither tokio nor tonic, which is why they alone are built without
//! the `daemon` feature.

/// Moments at which a test lets the daemon die.
#[cfg(feature = "daemon")]
pub mod crash;
/// What kind of failure an error is, for the one conversion to a gRPC status.
pub mod kind;
/// The pod's supervisor, its protocol, and the daemon's client for it.
pub mod monitor;
/// The internal runtime: executes an OCI runtime spec on the kernel.
pub mod runtime;
/// System calls behind safe interfaces, and every `unsafe` block.
#[allow(unsafe_code)]
pub mod sys;

/// What the `criquet` command asks of a running daemon.
#[cfg(feature = "daemon")]
pub mod admin;
/// Devices by the Container Device Interface.
#[cfg(feature = "daemon")]
pub mod cdi;
/// Command line: arguments, configuration, `serve`, `check`.
#[cfg(feature = "daemon")]
pub mod cli;
/// The gRPC services: validate, translate, map errors.
#[cfg(feature = "daemon")]
pub mod cri;
/// References, registries, layers, unpacking, garbage collection.
#[cfg(feature = "daemon")]
pub mod image;
/// Network namespaces, CNI, the built-in bridge network.
#[cfg(feature = "daemon")]
pub mod network;
/// Pods from manifests of Kubernetes, without a cluster.
#[cfg(feature = "daemon")]
pub mod play;
/// The life of sandboxes and containers.
#[cfg(feature = "daemon")]
pub mod pod;
/// Quantities as Kubernetes writes them.
#[cfg(feature = "daemon")]
pub mod quantity;
/// From a container's configuration to an OCI runtime spec.
#[cfg(feature = "daemon")]
pub mod spec;
/// What pods and containers use.
#[cfg(feature = "daemon")]
pub mod stats;
/// Durable state.
#[cfg(feature = "daemon")]
pub mod store;
/// The HTTP server for exec, attach and port forwarding.
#[cfg(feature = "daemon")]
pub mod streaming;
/// Scopes and slices of systemd.
#[cfg(feature = "daemon")]
pub mod systemd;
/// What the daemon tells of itself: what is under way, figures, traces.
#[cfg(feature = "daemon")]
pub mod telemetry;
/// TLS of the servers that can be reached from other machines.
#[cfg(feature = "daemon")]
pub mod tls;
/// YAML as far as it says what JSON can say.
#[cfg(feature = "daemon")]
pub mod yaml;

/// Entry points of the fuzzers.
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod fuzz;
