//! Between the CRI's protobuf types and Criquet's own.
//!
//! What a request asks for and Criquet does not do yet is refused here with the name of the
//! field: nothing is ignored silently.

mod container;
mod sandbox;
mod shared;
mod stats;
mod streams;

pub use container::{
    config as container_config, list_item as container_item, status as container_status,
};
pub use sandbox::{config as sandbox_config, list_item as sandbox_item, status as sandbox_status};
pub use shared::{resources, resources_out};
pub use stats::{of_container as container_stats, of_sandbox as sandbox_stats};
pub(super) use streams::{attach_request, exec_request, ports};
