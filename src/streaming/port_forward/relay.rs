//! One connection between a client's stream and a port in a pod.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
};

use crate::{
    pod::{Pods, Sandbox},
    streaming::{
        channel::{Chunk, Incoming, Outgoing},
        error_text,
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

/// The client does not want the connection any more.
struct Reset;

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
            // A reset ends both directions at once: it drops the other one.
            let _ = tokio::try_join!(to_port(incoming, write), to_client(read, outgoing));
            let _ = error.finish().await;
        }
        Err(reason) => {
            let reason = error_text(&reason);
            let text = format!("error forwarding port {port} to pod {}: {reason}", sandbox.id);
            // A client that is gone does not want to know.
            let _ = error.send_last(&text).await;
            outgoing.reset().await;
        }
    }
}

async fn to_port(mut incoming: Incoming, mut port: OwnedWriteHalf) -> Result<(), Reset> {
    while let Some(piece) = incoming.next().await {
        if port.write_all(&piece).await.is_err() {
            // It may still have something to say.
            return Ok(());
        }
    }
    if incoming.is_reset() {
        return Err(Reset);
    }
    // Half of the connection is closed; the other half goes on.
    let _ = port.shutdown().await;
    Ok(())
}

async fn to_client(mut port: OwnedReadHalf, outgoing: Outgoing) -> Result<(), Reset> {
    let mut chunk = Chunk::with_capacity(READ_BUFFER);
    loop {
        match port.read(chunk.space()).await {
            Ok(0) => {
                let _ = outgoing.finish().await;
                return Ok(());
            }
            Ok(length) => chunk.fill(length),
            Err(_) => {
                outgoing.reset().await;
                return Err(Reset);
            }
        }
        if outgoing.send(&mut chunk).await.is_err() {
            return Err(Reset);
        }
    }
}
