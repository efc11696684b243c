//! From a process to a client.

use tokio_util::sync::CancellationToken;

use crate::streaming::{
    channel::{Chunk, Outgoing},
    descriptor::Source,
    transport::READ_BUFFER,
};

/// How much is still read once the process has ended: more than a pipe holds.
const MOST_LEFT: usize = 2 << 20;

/// Sends what a process writes, until nobody can write any more, or until `ended` and what was
/// written before has been sent. What a child that was left behind may write later is not
/// waited for. Where no client reads, or it is gone, the rest is read all the same, so that the
/// process does not wait forever.
pub async fn forward(mut source: Source, mut client: Option<Outgoing>, ended: CancellationToken) {
    let mut chunk = Chunk::with_capacity(READ_BUFFER);
    loop {
        let read = tokio::select! {
            biased;
            () = ended.cancelled() => break,
            read = source.read(chunk.space()) => read,
        };
        match read {
            Ok(0) | Err(_) => return finish(client).await,
            Ok(length) => send(&mut client, &mut chunk, length).await,
        }
    }
    let mut left = MOST_LEFT;
    while left > 0 {
        match source.read_now(chunk.space()) {
            Ok(length @ 1..) => {
                left = left.saturating_sub(length);
                send(&mut client, &mut chunk, length).await;
            }
            _ => break,
        }
    }
    finish(client).await;
}

async fn send(client: &mut Option<Outgoing>, chunk: &mut Chunk, length: usize) {
    chunk.fill(length);
    if let Some(outgoing) = client
        && outgoing.send(chunk).await.is_err()
    {
        *client = None;
    }
}

async fn finish(client: Option<Outgoing>) {
    if let Some(outgoing) = client {
        // The client may have closed it before.
        let _ = outgoing.finish().await;
    }
}
