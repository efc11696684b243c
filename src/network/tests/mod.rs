//! Tests on the kernel, in network namespaces of their own.

mod harness;

mod attacks;
mod bandwidth;
mod bridge;
mod cni;
mod cni_cache;
mod cni_directory;
mod cni_faults;
mod cni_habits;
mod cni_multus;
mod cni_plugins;
mod families;
mod host_ports;
mod lifecycle;
mod sctp;
