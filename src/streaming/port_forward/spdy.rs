//! Connections as pairs of streams that the client opens in one session of frames.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::Instant};

use super::relay::{Pair, forward};
use crate::{
    pod::{Pods, Sandbox},
    streaming::{
        channel::Outgoing,
        spdy::{Session, Stream},
    },
};

/// A connection of which one stream is there.
struct Half {
    stream: Stream,
    is_error: bool,
    deadline: Instant,
}

/// Serves the session until its end. A pair that is not complete in time is reset.
pub async fn serve(
    pods: &Arc<Pods>,
    sandbox: &Arc<Sandbox>,
    mut session: Session,
    patience: Duration,
) {
    let mut halves: HashMap<String, Half> = HashMap::new();
    let mut connections = JoinSet::new();
    loop {
        let next = halves.values().map(|half| half.deadline).min();
        let expiry = async {
            match next {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            stream = session.accept() => {
                let Some(stream) = stream else { break };
                if let Some((port, pair)) = complete(&mut halves, stream, patience) {
                    let (pods, sandbox) = (Arc::clone(pods), Arc::clone(sandbox));
                    connections.spawn(async move { forward(&pods, &sandbox, port, pair).await });
                }
            }
            Some(_) = connections.join_next() => {}
            // A stream that is dropped is reset.
            () = expiry => halves.retain(|_, half| half.deadline > Instant::now()),
        }
    }
    session.close().await;
}

/// Joins a stream with the other one of its connection, once that is there. A stream that
/// belongs to none is dropped, and so reset.
fn complete(
    halves: &mut HashMap<String, Half>,
    stream: Stream,
    patience: Duration,
) -> Option<(u16, Pair)> {
    let port: u16 = stream.headers.get("port")?.parse().ok().filter(|&port| port > 0)?;
    let is_error = match stream.headers.get("streamType")? {
        "error" => true,
        "data" => false,
        _ => return None,
    };
    // Clients older than the header open the error stream of a connection first and its data
    // stream, whose id is higher by two, next.
    let first = if is_error { stream.id } else { stream.id.saturating_sub(2) };
    let request = stream.headers.get("requestID").map_or_else(|| first.to_string(), str::to_owned);
    let Some(half) = halves.remove(&request) else {
        let deadline = Instant::now() + patience;
        halves.insert(request, Half { stream, is_error, deadline });
        return None;
    };
    if half.is_error == is_error {
        halves.insert(request, half);
        return None;
    }
    let (data, error) = if is_error { (half.stream, stream) } else { (stream, half.stream) };
    let pair = Pair {
        incoming: data.incoming,
        outgoing: Outgoing::Spdy(data.outgoing),
        error: Outgoing::Spdy(error.outgoing),
    };
    Some((port, pair))
}
