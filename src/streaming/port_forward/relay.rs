//! One connection between a client's stream and a port in a pod.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
};

use crate::{
    pod::{Pods, Sandbox},
    streaming::{
        channel::{Chunk, Outgoing},
        queue::Incoming,
        transport::READ_BUFFER,
    },
};

/// The streams of one connection.
pub(super) struct Pair {
    /// The connection's bytes from the client.
    pub incoming: Incoming,
    /// Those to the client.
    pub outgoing: Outgoing,
    /// Where the client is told why there is no connection.
    pub error: Outgoing,
}

/// The connection is over in both directions.
struct Over;

/// Connects to the port and carries bytes until both sides have ended.
///
/// Only a connection that cannot be made is an error for the client: clients end all
/// connections of a session when they are told one, so that one that breaks later is reset
/// without a word.
pub(super) async fn forward(pods: &Pods, sandbox: &Sandbox, port: u16, pair: Pair) {
    let Pair { incoming, outgoing, error } = pair;
    match pods.dial(sandbox, port).await {
        Ok(connection) => {
            let (read, write) = connection.into_split();
            // Whichever direction knows that it is over drops the other one.
            let _ = tokio::try_join!(to_port(incoming, write), to_client(read, outgoing));
            error.send_last("").await;
        }
        Err(reason) => {
            let reason = crate::kind::chain(&reason);
            let text = format!("error forwarding port {port} to pod {}: {reason}", sandbox.id);
            error.send_last(&text).await;
            outgoing.reset().await;
        }
    }
}

async fn to_port(mut incoming: Incoming, mut port: OwnedWriteHalf) -> Result<(), Over> {
    while let Some(piece) = incoming.next().await {
        if port.write_all(&piece).await.is_err() {
            // It may still have something to say.
            return Ok(());
        }
    }
    if incoming.is_reset() {
        return Err(Over);
    }
    // Half of the connection is closed; the other half goes on.
    let _ = port.shutdown().await;
    Ok(())
}

async fn to_client(mut port: OwnedReadHalf, outgoing: Outgoing) -> Result<(), Over> {
    let mut chunk = Chunk::with_capacity(READ_BUFFER);
    loop {
        match port.read(chunk.space()).await {
            // A client that cannot be told the end cannot be waited for either.
            Ok(0) => return outgoing.finish().await.map_err(|_| Over),
            Ok(length) => chunk.fill(length),
            Err(_) => {
                outgoing.reset().await;
                return Err(Over);
            }
        }
        if outgoing.send(&mut chunk).await.is_err() {
            return Err(Over);
        }
    }
}
