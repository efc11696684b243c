//! From a client to a process.

use crate::streaming::{descriptor::Sink, queue::Incoming};

/// Writes what the client sends, until it sends nothing more or nobody reads. Dropping the
/// descriptor is what ends the standard input of a process.
pub async fn forward(mut stdin: Incoming, mut sink: Sink) {
    while let Some(piece) = stdin.next().await {
        if sink.write_all(&piece).await.is_err() {
            return;
        }
    }
}
