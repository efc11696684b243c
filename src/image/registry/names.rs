//! From the names of hosts to addresses, on few threads and within zones.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

use super::zone::Zones;
use crate::image::task::Workers;

/// Proxies that the environment may name; where one is used, it is what names are looked up
/// for here.
const PROXIES: [&str; 6] =
    ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// What a name leads to is where its registry must not lead.
#[derive(Debug, thiserror::Error)]
#[error("it is at an address where the registry is not, and that is not public")]
pub(super) struct OutOfZone;

/// Looks names up. A name server that does not answer takes a few threads and no more.
#[derive(Clone, Default)]
pub(super) struct Names {
    workers: Workers,
    /// Nothing where every address will do.
    zones: Option<Zones>,
    proxies: Arc<BTreeSet<String>>,
}

impl Names {
    /// The same for those who are sent to a host by a registry in these zones.
    pub(super) fn within(&self, zones: Zones) -> Self {
        let urls = PROXIES.iter().filter_map(|name| std::env::var(name).ok());
        let hosts = urls.filter_map(|url| Some(Url::parse(&url).ok()?.host_str()?.to_owned()));
        Self { zones: Some(zones), proxies: Arc::new(hosts.collect()), ..self.clone() }
    }

    /// The threads of all who look up.
    pub(super) fn workers(&self) -> &Workers {
        &self.workers
    }

    /// All addresses of a name; none where there are none.
    pub(super) async fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let found = self.look_up(name.to_owned()).await;
        found.unwrap_or_default().iter().map(SocketAddr::ip).collect()
    }

    async fn look_up(&self, name: String) -> io::Result<Vec<SocketAddr>> {
        let work = move || Ok((name.as_str(), 0).to_socket_addrs().map(Iterator::collect));
        self.workers.run(work).await.map_err(io::Error::other)?
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.clone();
        Box::pin(async move {
            let mut found = names.look_up(name.as_str().to_owned()).await?;
            if let Some(zones) = names.zones.filter(|_| !names.proxies.contains(name.as_str())) {
                found.retain(|address| zones.allow(address.ip()));
                if found.is_empty() {
                    return Err(OutOfZone.into());
                }
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_leads_out_of_the_zone_leads_nowhere() {
        let names = Names::default();
        assert!(names.addresses("localhost").await.iter().all(IpAddr::is_loopback));
        assert!(names.addresses("no such name").await.is_empty());
        let name = || "localhost".parse::<Name>().unwrap();
        assert!(names.resolve(name()).await.unwrap().count() > 0);
        let near = names.within(Zones::around(["127.0.0.1".parse().unwrap()]));
        assert!(near.resolve(name()).await.unwrap().count() > 0);
        let far = names.within(Zones::around(["9.9.9.9".parse().unwrap()]));
        let Err(error) = far.resolve(name()).await else { panic!("it leads to this machine") };
        assert!(error.is::<OutOfZone>());
    }
}
