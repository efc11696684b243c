//! What a sandbox asks of the network, and how it joins and leaves it.

use std::{fs, net::IpAddr, os::fd::AsFd, path::Path};

use crate::{
    network::{self, PodRequest},
    pod::{
        Pods,
        error::{During, Error},
        id::SandboxId,
        sandbox::{Sandbox, SandboxRecord, addresses},
    },
    spec::config::{self, Protocol, SandboxConfig},
};

impl Pods {
    /// What is recorded before anything of the network is made, and asked for then.
    pub(super) fn network_request(
        &self,
        id: &SandboxId,
        config: &SandboxConfig,
        cgroup: &Path,
    ) -> PodRequest {
        let dns = config.dns.clone().unwrap_or_default();
        let allowed = &self.options.containers.allowed_annotations;
        // Checked when the sandbox was asked for.
        let wanted = addresses::wanted(&config.annotations, allowed).unwrap_or_default();
        let mappings = config.port_mappings.iter().filter(|mapping| mapping.host_port != 0);
        PodRequest {
            sandbox_id: id.to_string(),
            name: config.metadata.name.clone(),
            namespace: config.metadata.namespace.clone(),
            uid: config.metadata.uid.clone(),
            annotations: config.annotations.clone(),
            port_mappings: mappings.map(host_port).collect(),
            cgroup_parent: cgroup.to_string_lossy().into_owned(),
            dns: network::Dns {
                servers: dns.servers,
                searches: dns.searches,
                options: dns.options,
            },
            ips: wanted.ips,
            mac: wanted.mac,
        }
    }

    /// The pod's addresses; none of one with the host's network.
    pub(super) async fn join_network(&self, record: &SandboxRecord) -> Result<Vec<IpAddr>, Error> {
        let (Some(request), Some(path)) = (&record.network, &record.netns) else {
            return Ok(Vec::new());
        };
        let netns = fs::File::open(path).during("open network namespace", path)?;
        Ok(self.parts.network.setup(request, netns.as_fd(), path).await?.ips)
    }

    /// Gives the network back. What it was asked for is forgotten only then.
    pub(super) async fn leave_network(&self, sandbox: &Sandbox) -> Result<(), Error> {
        let (request, netns) = {
            let record = sandbox.record();
            (record.network.clone(), record.netns.clone())
        };
        let Some(request) = request else { return Ok(()) };
        self.parts.network.teardown(&request, netns.as_deref()).await?;
        sandbox.record().network = None;
        Ok(())
    }
}

fn host_port(mapping: &config::PortMapping) -> network::PortMapping {
    network::PortMapping {
        protocol: match mapping.protocol {
            Protocol::Tcp => network::Protocol::Tcp,
            Protocol::Udp => network::Protocol::Udp,
            Protocol::Sctp => network::Protocol::Sctp,
        },
        host_port: mapping.host_port,
        container_port: mapping.container_port,
        // Checked as well.
        host_ip: mapping.host_ip.parse().ok(),
    }
}
