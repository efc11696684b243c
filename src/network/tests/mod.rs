//! Tests on the kernel, in network namespaces of their own.

mod harness;

mod bridge;
mod cni;
mod cni_plugins;
mod host_ports;
mod lifecycle;
