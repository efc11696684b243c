//! What the calls about metrics have in common.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tonic::Status;

use super::RuntimeServer;
use crate::{
    cri::metrics::{Encoder, Facts, Labels, OfContainer, PodSandboxMetrics, Subject},
    image::ImageId,
    pod::{Container, ContainerPhase, Metrics, Sandbox, in_parallel},
};

/// Pods whose metrics are put together by one thread rather than several.
const FEW: usize = 8;

/// The metrics of a pod or a container in bytes, where names are as long as a kubelet's.
const SIZE: usize = 8 << 10;

impl RuntimeServer {
    /// The metrics of all pods that are ready.
    pub(super) async fn pod_metrics(&self) -> Result<Vec<PodSandboxMetrics>, Status> {
        let read = self.pods.metrics().await?;
        let server = self.clone();
        // Thousands of them take milliseconds, which others need not wait for.
        let built = tokio::task::spawn_blocking(move || server.build(read)).await;
        built.map_err(|_| Status::internal("the metrics could not be put together; try again"))
    }

    fn build(self, read: Metrics) -> Vec<PodSandboxMetrics> {
        let mut containers: BTreeMap<String, Vec<Arc<Container>>> = BTreeMap::new();
        let mut images = BTreeMap::new();
        for container in self.pods.containers() {
            if read.containers.contains_key(container.id.as_str()) {
                self.note_image(&container, &mut images);
                let pod = container.record().sandbox.to_string();
                containers.entry(pod).or_default().push(container);
            }
        }
        let mut cgroups = BTreeSet::new();
        let mut pods = Vec::new();
        for sandbox in self.pods.sandboxes() {
            if !read.sandboxes.contains_key(sandbox.id.as_str()) {
                continue;
            }
            let containers = containers.remove(sandbox.id.as_str()).unwrap_or_default();
            // The same labels twice would cost a kubelet all its metrics, and two sandboxes
            // can be told to have one cgroup.
            let is_first = cgroups.insert(sandbox.record().pod_cgroup().to_owned());
            pods.push(Pod { sandbox, containers, is_first });
        }
        let round = Round { read, images };
        in_parallel(FEW, pods, move |pod| self.metrics_of_pod(pod, &round))
    }

    fn metrics_of_pod(&self, pod: &Pod, round: &Round) -> Option<PodSandboxMetrics> {
        let Pod { sandbox, containers, is_first } = pod;
        let id = sandbox.id.as_str();
        let reading = round.read.sandboxes.get(id)?;
        let (name, namespace, cgroup, created_at) = {
            let record = sandbox.record();
            let metadata = &record.config.metadata;
            let (name, namespace) = (metadata.name.clone(), metadata.namespace.clone());
            (name, namespace, record.pod_cgroup().to_owned(), record.created_at)
        };
        let path = cgroup.to_string_lossy();
        let labels = Labels { id: &path, namespace: &namespace, pod: &name, ..Labels::default() };
        let facts = Facts {
            started_at: created_at,
            reading: &reading.reading,
            details: round.read.details.get(id).map(|details| &**details),
            interfaces: reading.interfaces.as_ref(),
            container: None,
            names: self.pods.device_names(),
        };
        let mut encoder = Encoder::new(id, SIZE * (1 + containers.len()));
        if *is_first {
            self.table.add(Subject::Pod, &labels, &facts, &mut encoder);
        }
        let of_network = Labels { name: id, ..labels };
        self.table.add(Subject::Network, &of_network, &facts, &mut encoder);
        for container in containers {
            if let Some(metrics) = self.metrics_of_container(container, &labels, round) {
                encoder.add_container(&metrics);
            }
        }
        Some(encoder.finish())
    }

    fn metrics_of_container(
        &self,
        container: &Container,
        pod: &Labels<'_>,
        round: &Round,
    ) -> Option<Encoder> {
        let id = container.id.as_str();
        let reading = round.read.containers.get(id).copied()?;
        let layer = self.pods.writable_layer(container);
        let (name, image, cgroup, started_at, resources) = {
            let record = container.record();
            let image = round.images.get(&record.image_id).cloned().unwrap_or_default();
            let started_at = match record.phase {
                ContainerPhase::Running { started_at, .. } => started_at,
                _ => record.created_at,
            };
            let name = record.config.metadata.name.clone();
            (name, image, record.cgroup.clone(), started_at, record.config.resources.clone())
        };
        let path = cgroup.to_string_lossy();
        let labels = Labels { container: &name, id: &path, image: &image, name: id, ..*pod };
        let facts = Facts {
            started_at,
            reading: &reading,
            details: round.read.details.get(id).map(|details| &**details),
            interfaces: None,
            container: Some(OfContainer {
                processes: round.read.processes.get(id),
                layer,
                disk: round.read.disk.as_ref(),
                resources: resources.as_ref(),
            }),
            names: self.pods.device_names(),
        };
        let mut encoder = Encoder::new(id, SIZE);
        self.table.add(Subject::Container, &labels, &facts, &mut encoder);
        Some(encoder)
    }

    /// Looks the name of an image up that people know, once for all its containers.
    fn note_image(&self, container: &Container, images: &mut BTreeMap<ImageId, String>) {
        let (id, reference) = {
            let record = container.record();
            (record.image_id, record.image_ref.clone())
        };
        images.entry(id).or_insert_with_key(|id| {
            let image = self.pods.images().find(&id.to_string());
            image.and_then(|image| image.repo_tags.first().cloned()).unwrap_or(reference)
        });
    }
}

/// What one answer is made from.
struct Round {
    read: Metrics,
    /// Names of images by their ids.
    images: BTreeMap<ImageId, String>,
}

/// A pod and those of its containers that run.
struct Pod {
    sandbox: Arc<Sandbox>,
    containers: Vec<Arc<Container>>,
    /// Whether no pod before it has its cgroup.
    is_first: bool,
}
