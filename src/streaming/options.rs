//! What an administrator decides about streams.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use crate::tls::TlsFiles;

/// The streaming server's options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where it listens. The kubelet of the same node is its only client.
    pub address: IpAddr,
    /// 0 for any port that is free.
    pub port: u16,
    /// After how long without a byte in either direction a session ends.
    pub idle_timeout: Duration,
    /// How long a client may take to open the streams of a command or of a connection.
    pub creation_timeout: Duration,
    /// How many sessions there are at one time.
    pub max_sessions: usize,
    /// Files for TLS; none for plain HTTP.
    pub tls: Option<TlsFiles>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            idle_timeout: Duration::from_secs(4 * 60 * 60),
            creation_timeout: Duration::from_secs(30),
            max_sessions: 1000,
            tls: None,
        }
    }
}
