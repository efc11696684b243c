//! Lists as streams of messages whose size is bounded (KEP-5825).

use prost::Message;
use tonic::Status;

/// The bytes of a message from which on the next item begins another one: far below what any
/// client takes, and enough that thousands of items are a few messages.
const SIZE: usize = 1 << 20;

/// A stream of answers that are there already.
pub(super) type Answers<T> = tokio_stream::Iter<std::vec::IntoIter<Result<T, Status>>>;

/// Each item once, in order, in messages that hold at least one and end once they are large. An
/// empty list is an empty stream.
pub(super) fn answers<T: Message, M>(items: Vec<T>, message: impl Fn(Vec<T>) -> M) -> Answers<M> {
    let mut messages = Vec::new();
    let (mut chunk, mut size) = (Vec::new(), 0);
    for item in items {
        let length = item.encoded_len();
        if size + length > SIZE && !chunk.is_empty() {
            messages.push(Ok(message(std::mem::take(&mut chunk))));
            size = 0;
        }
        size += length;
        chunk.push(item);
    }
    if !chunk.is_empty() {
        messages.push(Ok(message(chunk)));
    }
    tokio_stream::iter(messages)
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use tokio_stream::StreamExt;

    use super::{SIZE, answers};
    use crate::cri::{PlainPodSandboxItem, PodSandboxItem, v1::StreamPodSandboxesResponse};

    fn sandbox(size: usize) -> PodSandboxItem {
        let plain = PlainPodSandboxItem { id: "x".repeat(size), ..Default::default() };
        PodSandboxItem::from_bytes(plain.encode_to_vec().into())
    }

    async fn sizes(of: &[usize]) -> Vec<usize> {
        let items = of.iter().map(|size| sandbox(*size)).collect();
        let message = |pod_sandboxes| StreamPodSandboxesResponse { pod_sandboxes };
        let messages: Vec<_> = answers(items, message).collect().await;
        messages.into_iter().map(|message| message.unwrap().pod_sandboxes.len()).collect()
    }

    #[tokio::test]
    async fn messages_are_bounded_and_no_item_is_lost() {
        assert_eq!(sizes(&[]).await, [0; 0]);
        assert_eq!(sizes(&[1, 2, 3]).await, [3]);
        assert_eq!(sizes(&[SIZE, 1, SIZE / 2, SIZE / 2]).await, [1, 2, 1]);
        assert_eq!(sizes(&[2 * SIZE]).await, [1], "one item has no smaller message");
    }
}
