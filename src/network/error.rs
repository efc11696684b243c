//! What can fail while a pod is joined to a network, and which kind of failure it is.

use std::{io, net::IpAddr, path::PathBuf};

use ipnet::IpNet;
use thiserror::Error;

use super::request::Protocol;
use crate::{kind::Kind, store};

/// A failure of the network module.
#[derive(Debug, Error)]
pub enum Error {
    /// There is neither a CNI configuration nor the built-in network.
    #[error(
        "no CNI configuration in {} and the built-in network is turned off; install a CNI \
         network there or turn the built-in network on", directory.display()
    )]
    NoNetwork {
        /// Where configurations are looked for.
        directory: PathBuf,
    },
    /// CNI configurations are there, but none can be used.
    #[error("no usable CNI configuration: {}: {reason}", path.display())]
    Configuration {
        /// The file, or the directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The kernel refused a change of the network.
    #[error("cannot {operation} {object}")]
    Kernel {
        /// The operation.
        operation: &'static str,
        /// What it was to be done to.
        object: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The built-in network is configured in a way that cannot be.
    #[error("the built-in network cannot have {name:?} as its {what}: {reason}")]
    Name {
        /// Bridge or table.
        what: &'static str,
        /// The name that is configured.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A subnet cannot hold pods.
    #[error("subnet {subnet} cannot be used for pods: {reason}")]
    Subnet {
        /// The subnet.
        subnet: IpNet,
        /// Why not.
        reason: &'static str,
    },
    /// Another device leads to addresses that pods are to get.
    #[error(
        "subnet {subnet} cannot be used for pods: {destination} is reached over the device \
         {device}; remove that device, or configure another network.subnet_v4 or subnet_v6"
    )]
    SubnetTaken {
        /// The subnet.
        subnet: IpNet,
        /// What somebody else has of it.
        destination: IpNet,
        /// The device.
        device: String,
    },
    /// All addresses of a subnet are in use.
    #[error(
        "no free address is left in {subnet}: {used} pods have one; remove pods or configure \
         a larger subnet"
    )]
    Exhausted {
        /// The subnet.
        subnet: IpNet,
        /// How many addresses are in use.
        used: usize,
    },
    /// A port mapping makes no sense.
    #[error("port mapping of host port {host_port}: {reason}")]
    PortMapping {
        /// The host port.
        host_port: u16,
        /// What is wrong with it.
        reason: String,
    },
    /// Another pod already has the host port.
    #[error(
        "host port {host_port}/{protocol} is already mapped for sandbox {owner}; remove that \
         pod or choose another host port"
    )]
    PortTaken {
        /// The host port.
        host_port: u16,
        /// Its protocol.
        protocol: Protocol,
        /// Who has it.
        owner: String,
    },
    /// A host port was asked for an address of a family that the pod has not.
    #[error("host port {host_port} on {host_ip}: the pod has no address of that family")]
    PortFamily {
        /// The host port.
        host_port: u16,
        /// The address of the host.
        host_ip: IpAddr,
    },
    /// The kernel has no nftables, or it refused a rule.
    #[error(
        "host ports need nftables in the kernel, with nat, masquerade, map and fib support; \
         load the modules nf_tables, nft_chain_nat, nft_masq and nft_fib_inet"
    )]
    Nftables {
        /// What the kernel says.
        source: io::Error,
    },
    /// The bridge has as many ports as a bridge can have (`BR_MAX_PORTS`).
    #[error(
        "the bridge {bridge} has 1,023 ports, and the kernel lets none have more; remove pods, or \
         use a CNI network that routes instead of bridging"
    )]
    BridgeFull {
        /// Its name.
        bridge: String,
    },
    /// The network cannot be removed while there are pods that have it.
    #[error("the built-in network still has {}; remove what there is first", pods_of(*count, first))]
    InUse {
        /// How many.
        count: usize,
        /// The sandbox of one of them.
        first: String,
    },
    /// The kernel cannot limit a pod's bandwidth.
    #[error(
        "cannot limit the bandwidth of the pod; load the modules sch_tbf, sch_ingress, cls_bpf, \
         act_mirred and ifb, or remove the annotation"
    )]
    Bandwidth {
        /// What the kernel says.
        source: io::Error,
    },
    /// An annotation of the pod that concerns its network is wrong.
    #[error("{reason}")]
    Annotation {
        /// Which one, and what is wrong with it.
        reason: String,
    },
    /// A CNI plugin is not installed.
    #[error("CNI plugin {plugin} is not in {directories}; install it there")]
    PluginMissing {
        /// The plugin's type.
        plugin: String,
        /// Where it was looked for.
        directories: String,
    },
    /// A CNI plugin cannot be executed.
    #[error("cannot execute CNI plugin {}", path.display())]
    PluginStart {
        /// The program.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A CNI plugin reported a failure.
    #[error("CNI plugin {plugin} failed to {verb}: {message}{} (code {code})", details_of(details))]
    Plugin {
        /// The plugin's type.
        plugin: String,
        /// The CNI command.
        verb: &'static str,
        /// The error code of the CNI specification, or the exit status.
        code: u32,
        /// The short message.
        message: String,
        /// The long message.
        details: String,
    },
    /// A CNI plugin did not end in time.
    #[error("CNI plugin {plugin} did not finish {verb} within {seconds} s and was killed")]
    PluginTimeout {
        /// The plugin's type.
        plugin: String,
        /// The CNI command.
        verb: &'static str,
        /// The time it had.
        seconds: u64,
    },
    /// A CNI plugin wrote something that is not a result.
    #[error(
        "CNI plugin {plugin} answered {verb} with something that is not a CNI result: {reason}"
    )]
    PluginResult {
        /// The plugin's type.
        plugin: String,
        /// The CNI command.
        verb: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The state of a sandbox' network cannot be recorded or read.
    #[error("cannot keep the network state of {object}")]
    Store {
        /// Whose state.
        object: String,
        /// What the database says.
        source: Box<store::Error>,
    },
    /// A file beside the database cannot be written or read.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// The operation.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The thread that talks to the kernel is gone.
    #[error("the network thread has ended; restart the daemon")]
    WorkerEnded,
}

impl Error {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Error::NoNetwork { .. }
            | Error::Configuration { .. }
            | Error::Name { .. }
            | Error::Nftables { .. }
            | Error::SubnetTaken { .. }
            | Error::InUse { .. }
            | Error::Bandwidth { .. }
            | Error::PluginMissing { .. } => Kind::FailedPrecondition,
            Error::Subnet { .. }
            | Error::PortMapping { .. }
            | Error::PortFamily { .. }
            | Error::Annotation { .. } => Kind::InvalidArgument,
            Error::Exhausted { .. } | Error::BridgeFull { .. } => Kind::ResourceExhausted,
            Error::PortTaken { .. } => Kind::AlreadyExists,
            // Codes 11, 50 and 51 of the specification: try again later, not available.
            Error::Plugin { code: 11 | 50 | 51, .. } => Kind::Unavailable,
            Error::PluginTimeout { .. } => Kind::DeadlineExceeded,
            Error::Kernel { source, .. }
            | Error::File { source, .. }
            | Error::PluginStart { source, .. } => Kind::of_io(source),
            Error::Store { source, .. } => source.kind(),
            Error::Plugin { .. } | Error::PluginResult { .. } | Error::WorkerEnded => {
                Kind::Internal
            }
        }
    }

    pub(super) fn kernel(
        operation: &'static str,
        object: impl Into<String>,
    ) -> impl FnOnce(io::Error) -> Self {
        let object = object.into();
        move |source| Error::Kernel { operation, object, source }
    }

    pub(super) fn store(object: &str) -> impl FnOnce(store::Error) -> Self + use<> {
        let object = object.to_owned();
        move |source| Error::Store { object, source: Box::new(source) }
    }
}

fn pods_of(count: usize, first: &str) -> String {
    match count {
        1 => format!("the pod {first}"),
        _ => format!("{count} pods, {first} among them"),
    }
}

fn details_of(details: &str) -> String {
    if details.is_empty() { String::new() } else { format!(": {details}") }
}
