//! What keeps the streaming server from serving, or from giving out a URL.

use std::{io, net::SocketAddr};

use thiserror::Error;

use crate::{kind::Kind, tls};

/// A failure of the streaming server.
#[derive(Debug, Error)]
pub enum Error {
    /// The address cannot be listened at.
    #[error("cannot listen at {address}; set streaming.address and streaming.port")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// TLS cannot be had.
    #[error("the streaming server cannot use TLS")]
    Tls(#[from] tls::Error),
    /// Too many URLs have been given out and not used.
    #[error("{0} URLs for streams are waiting to be used; try again in a minute")]
    TooMany(usize),
    /// No random number can be had.
    #[error("cannot make a token")]
    Random(#[source] io::Error),
}

impl Error {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Listen { .. } | Error::Random(_) => Kind::Internal,
            Error::Tls(_) => Kind::InvalidArgument,
            Error::TooMany(_) => Kind::ResourceExhausted,
        }
    }
}
