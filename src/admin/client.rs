//! The way to the daemon.

use std::path::PathBuf;

use tonic::transport::{Channel, Endpoint, Uri};

/// A channel to the daemon at `socket`, which is connected with the first call: that one
/// answers `UNAVAILABLE` where no daemon listens.
pub fn channel(socket: PathBuf) -> Channel {
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(socket).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    // The address is never looked at: the connector knows the socket.
    Endpoint::from_static("http://criquet").connect_with_connector_lazy(connector)
}
