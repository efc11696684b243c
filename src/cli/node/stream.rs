//! The way to the daemon's streaming server, with TLS where it has that.

use std::{io, path::Path};

use rustls::{CertificateError, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::client::IntoClientRequest};

use super::error::Error as NodeError;
use crate::tls;

/// A connection, whatever it is made of.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// What is known of the server's TLS.
pub(super) struct Tls<'a> {
    /// Its certificate.
    pub server: Option<&'a Path>,
    /// Whether it asks its clients for one.
    pub asks_for_certificates: bool,
    /// Ours, and its key.
    pub client: Option<(&'a Path, &'a Path)>,
}

/// Opens a WebSocket at a URL that the daemon has given.
pub(super) async fn connect(
    url: &str,
    protocol: &'static str,
    tls: &Tls<'_>,
) -> Result<WebSocketStream<Box<dyn Wire>>, NodeError> {
    let failed = |reason: String| NodeError::Stream { url: url.to_owned(), reason };
    let (scheme, rest) = url.split_once("://").ok_or_else(|| failed("it is no URL".to_owned()))?;
    let host = rest.split('/').next().unwrap_or_default();
    let stream = TcpStream::connect(host).await.map_err(|error| failed(error.to_string()))?;
    let stream: Box<dyn Wire> = match scheme {
        "https" => encrypted(url, host, stream, tls).await?,
        _ => Box::new(stream),
    };
    let request = format!("ws://{rest}").into_client_request();
    let mut request = request.map_err(|error| failed(error.to_string()))?;
    let headers = request.headers_mut();
    headers.insert("Sec-WebSocket-Protocol", http::HeaderValue::from_static(protocol));
    // With version 1.3 a server says only now that it wants a certificate.
    let (socket, _) = client_async(request, stream).await.map_err(|error| {
        match tls.asks_for_certificates && tls.client.is_none() {
            true => NodeError::NoClientCertificate,
            false => failed(error.to_string()),
        }
    })?;
    Ok(socket)
}

async fn encrypted(
    url: &str,
    host: &str,
    stream: TcpStream,
    tls: &Tls<'_>,
) -> Result<Box<dyn Wire>, NodeError> {
    let failed = |reason: String| NodeError::Stream { url: url.to_owned(), reason };
    let certificate = tls.server.ok_or(NodeError::NoCertificate)?;
    let connector = tls::connector(certificate, tls.client)?;
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned());
    let name = name.map_err(|error| failed(error.to_string()))?;
    match connector.connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) if is_another(&error) => Err(NodeError::OtherCertificate {
            url: url.to_owned(),
            certificate: certificate.to_owned(),
        }),
        Err(_) if tls.asks_for_certificates && tls.client.is_none() => {
            Err(NodeError::NoClientCertificate)
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Whether the server has shown another certificate.
fn is_another(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let other = CertificateError::ApplicationVerificationFailure;
    matches!(inner, Some(rustls::Error::InvalidCertificate(reason)) if *reason == other)
}
