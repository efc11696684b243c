//! Connections as pairs of channels of one WebSocket: two for each port that was asked for,
//! data and error, each of which begins with the port's number.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::relay::{Pair, forward};
use crate::{
    pod::{Pods, Sandbox},
    streaming::{
        channel::{Chunk, Outgoing},
        queue::Incoming,
        websocket::Session,
    },
};

/// The most ports of one session: channels are numbered by bytes.
pub const MAX_PORTS: usize = 127;

/// Which channels a client may write to.
pub fn read_channels(ports: usize) -> Vec<bool> {
    (0..ports).flat_map(|_| [true, false]).collect()
}

/// Serves the session until all connections have ended.
pub async fn serve(
    pods: &Arc<Pods>,
    sandbox: &Arc<Sandbox>,
    ports: &[u16],
    session: Session,
    incoming: Vec<Option<Incoming>>,
) {
    let mut connections = JoinSet::new();
    // Every second channel is for errors, which a client does not write.
    let data_channels = incoming.into_iter().flatten();
    for (index, (&port, incoming)) in ports.iter().zip(data_channels).enumerate() {
        let channel = |offset| Outgoing::WebSocket(session.outgoing(index as u8 * 2 + offset));
        let pair = Pair { incoming, outgoing: channel(0), error: channel(1) };
        let (pods, sandbox) = (Arc::clone(pods), Arc::clone(sandbox));
        connections.spawn(async move {
            for outgoing in [&pair.outgoing, &pair.error] {
                // A client that is gone is met again by what follows.
                let _ = outgoing.send(&mut number(port)).await;
            }
            forward(&pods, &sandbox, port, pair).await;
        });
    }
    let over = session.over();
    tokio::select! {
        () = async { while connections.join_next().await.is_some() {} } => session.close().await,
        () = over.cancelled() => {}
    }
}

fn number(port: u16) -> Chunk {
    let mut chunk = Chunk::with_capacity(2);
    chunk.space().copy_from_slice(&port.to_le_bytes());
    chunk.fill(2);
    chunk
}
