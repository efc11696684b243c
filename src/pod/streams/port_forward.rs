//! PortForward: connections to ports in a pod.

use tokio::net::TcpStream;

use crate::{
    network::dial,
    pod::{Pods, error::Error, sandbox::Sandbox},
};

impl Pods {
    /// Whether ports of a sandbox can be reached now.
    ///
    /// # Errors
    /// A sandbox that is not ready.
    pub async fn check_port_forward(&self, sandbox: &Sandbox) -> Result<(), Error> {
        sandbox.ready_monitor("forwarding ports").await.map(drop)
    }

    /// Connects to a port on the loopback of a sandbox.
    ///
    /// # Errors
    /// A sandbox that is not ready, and a port that nobody listens at.
    pub async fn dial(&self, sandbox: &Sandbox, port: u16) -> Result<TcpStream, Error> {
        self.check_port_forward(sandbox).await?;
        let namespace = sandbox.record().netns.clone();
        Ok(dial::loopback(namespace, port).await?)
    }
}
