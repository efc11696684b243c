//! `criquet network`: what there is of networks, and the end of the built-in one.

use std::{fmt::Write, sync::Arc};

use clap::{Args, Subcommand};

use super::{
    Error,
    config::Config,
    image::{
        self, Client,
        args::{Node, Output},
    },
    output::print,
    serve,
};
use crate::{
    admin::v1::{
        HostPort, ListNetworksRequest, ListNetworksResponse, PodNetwork, RemoveNetworkRequest,
    },
    network,
    store::{Database, Durability},
};

/// `criquet network`.
#[derive(Debug, Subcommand)]
pub enum Network {
    /// List the bridge, its subnets, and addresses and host ports of all pods
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Remove the bridge and the rules of the built-in network, where no pod has them
    #[command(visible_alias = "remove")]
    Rm(Node),
}

/// `criquet network ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Also ask CNI plugins whether pods still have what they gave them
    #[arg(long)]
    pub check: bool,
    /// The node.
    #[command(flatten)]
    pub node: Node,
}

/// Does what `criquet network` is told.
pub(super) fn command(command: Network) -> Result<(), Error> {
    match command {
        Network::Ls(arguments) => {
            let client = Client::new(&config(&arguments.node)?)?;
            let request = ListNetworksRequest { check: arguments.check };
            let networks = client.ask(client.admin().list_networks(request))?;
            print(&match arguments.output {
                Output::Table => table(&networks),
                Output::Json => {
                    format!("{:#}\n", serde_json::to_value(&networks).unwrap_or_default())
                }
            })
        }
        Network::Rm(node) => {
            let config = config(&node)?;
            let client = Client::new(&config)?;
            match client.ask(client.admin().remove_network(RemoveNetworkRequest {})) {
                Ok(_) => Ok(()),
                Err(image::Error::NoDaemon { .. }) => remove_alone(&config),
                Err(error) => Err(error.into()),
            }
        }
    }
}

fn config(node: &Node) -> Result<Config, Error> {
    Ok(Config::load_with(node.file.config.as_deref(), &node.overrides())?)
}

/// Without a daemon: its locks keep one from starting meanwhile.
pub(super) fn remove_alone(config: &Config) -> Result<(), Error> {
    let _root = serve::lock_root(&config.root).map_err(Box::new)?;
    let options = config.network_options();
    // A daemon with another root may have a network of this name.
    let _network = serve::lock_network(&options, &config.root).map_err(Box::new)?;
    let database = Database::open(&config.root.join("state.db"), Durability::Process);
    let database = database.map_err(image::Error::from)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let network = network::Network::open(options, Arc::new(database)).map_err(Error::Network)?;
    runtime.block_on(network.remove_builtin()).map_err(Error::Network)
}

fn table(networks: &ListNetworksResponse) -> String {
    let mut text = format!("bridge {}", networks.bridge);
    match networks.mtu {
        0 => text.push_str(", made with the first pod\n"),
        // Writing into text does not fail.
        mtu => drop(writeln!(text, ", packets of {mtu} bytes")),
    }
    for subnet in &networks.subnets {
        let (used, size) = (subnet.used, subnet.size);
        let _ = writeln!(
            text,
            "subnet {}, gateway {}, {used} of {size} addresses in use",
            subnet.subnet, subnet.gateway
        );
    }
    if networks.pods.is_empty() {
        return text;
    }
    let mut rows = vec![["POD", "NETWORK", "ADDRESSES", "HOST PORTS", "DEVICE"].map(str::to_owned)];
    rows.extend(networks.pods.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    text.push('\n');
    for row in &rows {
        let line = row.iter().zip(widths.into_iter().chain([0]));
        let line: String =
            line.map(|(cell, width)| format!("{cell:width$}   ", width = width)).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for pod in networks.pods.iter().filter(|pod| !pod.problem.is_empty()) {
        let _ = writeln!(text, "\n{}: {}", name_of(pod), pod.problem);
    }
    text
}

fn row(pod: &PodNetwork) -> [String; 5] {
    let ports: Vec<String> = pod.host_ports.iter().map(port).collect();
    [
        name_of(pod),
        pod.network.clone(),
        pod.addresses.join(","),
        ports.join(","),
        pod.device.clone(),
    ]
}

fn name_of(pod: &PodNetwork) -> String {
    match pod.name.as_str() {
        "" => pod.sandbox_id.clone(),
        name => format!("{}/{name}", pod.namespace),
    }
}

fn port(port: &HostPort) -> String {
    format!("{}->{}/{}", on_host(port), port.container_port, port.protocol)
}

/// A host port with the address that it is at, where that is not any: `[::1]:80`.
pub(super) fn on_host(port: &HostPort) -> String {
    let number = port.host_port;
    match port.host_ip.as_str() {
        "" => number.to_string(),
        v6 if v6.contains(':') => format!("[{v6}]:{number}"),
        v4 => format!("{v4}:{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{ListNetworksResponse, PodNetwork, table};
    use crate::admin::v1::{HostPort, Subnet};

    #[test]
    fn a_table_of_networks() {
        let port = |host_ip: &str| HostPort {
            protocol: "tcp".to_owned(),
            host_ip: host_ip.to_owned(),
            host_port: 8080,
            container_port: 80,
        };
        let networks = ListNetworksResponse {
            bridge: "criquet0".to_owned(),
            mtu: 1500,
            subnets: vec![Subnet {
                subnet: "10.88.0.0/16".to_owned(),
                gateway: "10.88.0.1".to_owned(),
                used: 1,
                size: 65533,
            }],
            pods: vec![PodNetwork {
                namespace: "default".to_owned(),
                name: "web".to_owned(),
                network: "builtin".to_owned(),
                addresses: vec!["10.88.0.2".to_owned(), "fd00::2".to_owned()],
                device: "cq0123456789abc".to_owned(),
                host_ports: vec![port(""), port("::1")],
                problem: "eth0 is gone".to_owned(),
                ..PodNetwork::default()
            }],
        };
        let expected = "\
bridge criquet0, packets of 1500 bytes
subnet 10.88.0.0/16, gateway 10.88.0.1, 1 of 65533 addresses in use

POD           NETWORK   ADDRESSES           HOST PORTS                        DEVICE
default/web   builtin   10.88.0.2,fd00::2   8080->80/tcp,[::1]:8080->80/tcp   cq0123456789abc

default/web: eth0 is gone
";
        assert_eq!(table(&networks), expected);
    }
}
