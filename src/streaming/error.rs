//! What keeps the streaming server from serving, or from giving out a URL.

use std::{io, net::SocketAddr, path::PathBuf};

use thiserror::Error;

use crate::kind::Kind;

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
    /// A file of the TLS configuration cannot be read.
    #[error("cannot read {} for TLS of the streaming server", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key, or the authorities, cannot be used.
    #[error("the TLS files of the streaming server cannot be used")]
    Tls(#[from] rustls::Error),
    /// The authorities that client certificates are checked with cannot be used.
    #[error("the client authorities of the streaming server cannot be used")]
    Authorities(#[from] rustls::server::VerifierBuilderError),
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
            Error::File { .. } | Error::Tls(_) | Error::Authorities(_) => Kind::InvalidArgument,
            Error::TooMany(_) => Kind::ResourceExhausted,
        }
    }
}
