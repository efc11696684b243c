//! What happens to pods and containers is told in order, to everybody who asks.

mod common;

use common::{Node, answered, requests};
use criquet::cri::v1::{self, ContainerEventType as Type};
use tokio_stream::StreamExt;

async fn subscribe(node: &mut Node) -> tonic::Streaming<v1::ContainerEventResponse> {
    node.runtime.get_container_events(v1::GetEventsRequest {}).await.unwrap().into_inner()
}

/// The next events: of whom, and what.
async fn told(
    stream: &mut tonic::Streaming<v1::ContainerEventResponse>,
    count: usize,
) -> Vec<v1::ContainerEventResponse> {
    let mut events = Vec::new();
    while events.len() < count {
        events.push(answered("an event", stream.next()).await.unwrap().unwrap());
    }
    events
}

#[tokio::test]
async fn a_life_is_told_in_order_to_all_subscribers_and_to_one_that_comes_back() {
    requires_root!();
    let mut node = Node::start().await;
    let mut first = subscribe(&mut node).await;
    let mut second = subscribe(&mut node).await;
    let pod = node.pod("pod").await;
    let (status, _) = node.result_of(&pod, requests::script("c", "exit 3")).await;
    let container = status.id;
    node.remove(&container).await.unwrap();
    node.remove_pod(&pod).await.unwrap();
    let expected = [
        (&pod, Type::ContainerCreatedEvent),
        (&pod, Type::ContainerStartedEvent),
        (&container, Type::ContainerCreatedEvent),
        (&container, Type::ContainerStartedEvent),
        (&container, Type::ContainerStoppedEvent),
        (&container, Type::ContainerDeletedEvent),
        (&pod, Type::ContainerStoppedEvent),
        (&pod, Type::ContainerDeletedEvent),
    ];
    for stream in [&mut first, &mut second] {
        let events = told(stream, expected.len()).await;
        let what = events.iter().map(|event| (&event.container_id, event.container_event_type()));
        assert!(what.eq(expected.iter().copied()), "{events:#?}");
        assert!(events.is_sorted_by_key(|event| event.created_at));
        for event in &events[..5] {
            let sandbox = event.pod_sandbox_status.as_ref().unwrap();
            assert_eq!(sandbox.id, pod);
        }
    }
    // Nobody listens for a while.
    drop((first, second));
    let again = node.pod("again").await;
    let mut third = subscribe(&mut node).await;
    let events = told(&mut third, 2).await;
    assert!(events.iter().all(|event| event.container_id == again), "{events:#?}");
    node.remove_pod(&again).await.unwrap();
}
