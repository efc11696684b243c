//! Sandboxes that were run by hand: found by name, and removed.

use std::path::Path;

use super::{LABEL, error::Error, volumes};
use crate::{
    cli::image::Client,
    cri::{
        PlainPodSandboxItem,
        v1::{
            ListPodSandboxRequest, PodSandboxFilter, RemovePodSandboxRequest, StopPodSandboxRequest,
        },
    },
};

/// Pods of that name that were run by hand.
pub(super) async fn find(client: &Client, name: &str) -> Result<Vec<PlainPodSandboxItem>, Error> {
    let filter = PodSandboxFilter {
        label_selector: [(LABEL.to_owned(), "true".to_owned())].into(),
        ..PodSandboxFilter::default()
    };
    let request = ListPodSandboxRequest { filter: Some(filter) };
    let answer = client.pods().list_pod_sandbox(request).await;
    let items = answer.map_err(Error::daemon("list pods"))?.into_inner().items;
    let is_named = |item: &PlainPodSandboxItem| {
        let metadata = item.metadata.clone().unwrap_or_default();
        metadata.name == name || format!("{}/{}", metadata.namespace, metadata.name) == name
    };
    Ok(items.iter().filter_map(|item| item.plain().ok()).filter(is_named).collect())
}

/// The sandbox with its containers, and the directory.
pub(super) async fn remove(
    client: &Client,
    sandbox: Option<&str>,
    directory: &Path,
) -> Result<(), Error> {
    if let Some(id) = sandbox {
        let request = StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let stopped = client.pods().stop_pod_sandbox(request).await;
        stopped.map_err(Error::daemon("stop the pod"))?;
        let request = RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let removed = client.pods().remove_pod_sandbox(request).await;
        removed.map_err(Error::daemon("remove the pod"))?;
    }
    volumes::remove(directory)
}
