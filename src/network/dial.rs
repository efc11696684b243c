//! Connections to the loopback of a pod.
//!
//! A socket belongs to the network namespace that it was made in, whoever uses it afterwards.
//! So a thread that ends right away makes it in the pod's, and the daemon connects it.

use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    thread,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::oneshot,
};

use super::{error::Error, namespace};

/// Connects to a port: of 127.0.0.1, or else of ::1. Without a namespace it is the host's.
///
/// # Errors
/// A namespace that is gone, and a port that nobody listens at.
pub async fn loopback(namespace: Option<PathBuf>, port: u16) -> Result<TcpStream, Error> {
    let [v4, v6] = sockets(namespace).await.map_err(Error::kernel("enter", "the pod's network"))?;
    let connect = async |socket: io::Result<OwnedFd>, address: IpAddr| {
        TcpSocket::from_std_stream(socket?.into()).connect(SocketAddr::new(address, port)).await
    };
    match connect(v4, Ipv4Addr::LOCALHOST.into()).await {
        Ok(stream) => Ok(stream),
        // What IPv4 says is what a user understands: most pods have no program on IPv6.
        Err(error) => match connect(v6, Ipv6Addr::LOCALHOST.into()).await {
            Ok(stream) => Ok(stream),
            Err(_) => Err(Error::kernel("connect to", format!("port {port} of the pod"))(error)),
        },
    }
}

type Sockets = [io::Result<OwnedFd>; 2];

async fn sockets(namespace: Option<PathBuf>) -> io::Result<Sockets> {
    let Some(path) = namespace else { return Ok(make_sockets()) };
    let (sender, made) = oneshot::channel();
    thread::Builder::new().name("dial".to_owned()).spawn(move || {
        let sockets = File::open(path)
            .and_then(|namespace| namespace::enter(namespace.as_fd()))
            .map(|()| make_sockets());
        // Whoever asked may have given up.
        let _ = sender.send(sockets);
    })?;
    made.await.map_err(io::Error::other)?
}

fn make_sockets() -> Sockets {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    [AddressFamily::INET, AddressFamily::INET6]
        .map(|family| Ok(socket_with(family, SocketType::STREAM, flags, None)?))
}
