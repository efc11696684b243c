//! Connections of clients, as the server takes them.

use std::{io, time::Duration};

use futures_util::Stream;
use rustix::net::sockopt::set_socket_send_buffer_size_force;
use tokio::net::{UnixListener, UnixStream};
use tracing::warn;

use super::authority::Mended;

/// The pause after an accept that fails: the first, and the longest. Whatever is missing,
/// most likely descriptors, is not there a microsecond later.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// What the kernel takes of an answer before its client reads, in bytes, as `SO_SNDBUFFORCE` counts.
/// The metrics of a node are some megabytes, and with the usual 208 KiB server and client wait for
/// each other ten times.
const AHEAD: usize = 2 << 20;

/// The connections of a listener. Where none can be accepted it waits, and says so once.
pub(super) fn connections(listener: UnixListener) -> impl Stream<Item = io::Result<Mended>> + Send {
    futures_util::stream::unfold(listener, |listener| async {
        let stream = next(&listener).await;
        Some((Ok(Mended::new(stream)), listener))
    })
}

async fn next(listener: &UnixListener) -> UnixStream {
    let mut pause = PAUSES[0];
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without the right to it (`CAP_NET_ADMIN`) answers are slower, and that is all.
                let _ = set_socket_send_buffer_size_force(&stream, AHEAD);
                return stream;
            }
            // The client is gone again.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if pause == PAUSES[0] {
                    warn!(%error, "no connection can be accepted; this is tried again");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES[1]);
            }
        }
    }
}
