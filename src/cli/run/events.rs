//! Something has happened to a container: those who wait look again.

use std::time::Duration;

use tokio::{sync::watch, task::JoinHandle};

use crate::{
    cli::node::Pods,
    cri::v1::{ContainerState, ContainerStatus, ContainerStatusRequest, GetEventsRequest},
};

/// Before a daemon that went away is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// Counts what has happened; ends with what is dropped.
pub(super) struct Events {
    changes: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Events {
    /// Listens from now on, through restarts of the daemon.
    pub(super) fn listen(mut pods: Pods) -> Self {
        let (sender, changes) = watch::channel(0);
        let task = tokio::spawn(async move {
            loop {
                let stream = pods.get_container_events(GetEventsRequest {}).await;
                // What happened before this was not told.
                sender.send_modify(|count| *count += 1);
                if let Ok(stream) = stream {
                    let mut stream = stream.into_inner();
                    while let Ok(Some(_)) = stream.message().await {
                        sender.send_modify(|count| *count += 1);
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { changes, task }
    }

    /// Waits for the end of a container. One that is gone has ended, nobody knows how.
    pub(super) async fn end_of(&self, pods: &Pods, id: &str) -> Option<ContainerStatus> {
        let mut changes = self.changes.clone();
        loop {
            changes.mark_unchanged();
            let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
            match pods.clone().container_status(request).await {
                Ok(answer) => {
                    let status = answer.into_inner().status.unwrap_or_default();
                    if status.state == i32::from(ContainerState::ContainerExited) {
                        return Some(status);
                    }
                }
                Err(status) if status.code() == tonic::Code::NotFound => return None,
                // A daemon that starts anew tells of a change.
                Err(_) => {}
            }
            if changes.changed().await.is_err() {
                return None;
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.task.abort();
    }
}
