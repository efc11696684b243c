//! GetContainerEvents.

use std::pin::Pin;

use futures_util::{Stream, stream};
use tonic::Status;

use super::RuntimeServer;
use crate::{
    cri::{convert, v1},
    pod::{Behind, Container, Event, Happening, Sandbox, Subject},
};

/// Events, for as long as the client reads.
pub type Events = Pin<Box<dyn Stream<Item = Result<v1::ContainerEventResponse, Status>> + Send>>;

impl RuntimeServer {
    /// What happens from now on, and what nobody was told of the last minutes. A client that
    /// is too far behind is told how much it has missed, which ends its stream: it lists anew.
    pub(super) async fn get_container_events(
        &self,
        _request: v1::GetEventsRequest,
    ) -> Result<Events, Status> {
        let subscription = self.pods.events().subscribe();
        let server = self.clone();
        let events = stream::unfold(Some((server, subscription)), async |state| {
            let (server, mut subscription) = state?;
            match subscription.next().await? {
                Ok(event) => {
                    let message = server.event_out(&event);
                    Some((Ok(message), Some((server, subscription))))
                }
                Err(Behind { missed }) => {
                    let words = format!(
                        "{missed} events are lost, since they were not read in time; list what \
                         there is and subscribe again"
                    );
                    Some((Err(Status::data_loss(words)), None))
                }
            }
        });
        Ok(Box::pin(events))
    }

    fn event_out(&self, event: &Event) -> v1::ContainerEventResponse {
        let kind = match event.happening {
            Happening::Created => v1::ContainerEventType::ContainerCreatedEvent,
            Happening::Started => v1::ContainerEventType::ContainerStartedEvent,
            Happening::Stopped => v1::ContainerEventType::ContainerStoppedEvent,
            Happening::Deleted => v1::ContainerEventType::ContainerDeletedEvent,
        };
        let (id, sandbox) = match &event.subject {
            Subject::Sandbox(sandbox) => (sandbox.id.to_string(), Some(sandbox.clone())),
            Subject::Container(container) => {
                (container.id.to_string(), self.pods.sandbox_of(container).ok())
            }
        };
        let mut containers = sandbox
            .as_deref()
            .map_or_else(Vec::new, |sandbox: &Sandbox| self.pods.containers_of(sandbox));
        if let Subject::Container(own) = &event.subject
            && event.happening != Happening::Deleted
            && !containers.iter().any(|container| container.id == own.id)
        {
            containers.push(own.clone());
        }
        let status = |container: &std::sync::Arc<Container>| self.status_of(container);
        v1::ContainerEventResponse {
            container_id: id,
            container_event_type: kind.into(),
            created_at: event.at,
            pod_sandbox_status: sandbox.as_deref().map(convert::sandbox_status),
            containers_statuses: containers.iter().map(status).collect(),
        }
    }
}
