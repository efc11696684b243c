//! What the calls about metrics have in common.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use tonic::Status;

use super::RuntimeServer;
use crate::{
    cri::{
        metrics::{Facts, Labels, OfContainer, Subject},
        v1,
    },
    pod::{Container, ContainerPhase, Metrics, PodReading, Sandbox},
};

impl RuntimeServer {
    /// The metrics of all pods that are ready.
    pub(super) async fn pod_metrics(&self) -> Result<Vec<v1::PodSandboxMetrics>, Status> {
        let read = self.pods.metrics().await?;
        let mut containers: BTreeMap<String, Vec<Arc<Container>>> = BTreeMap::new();
        for container in self.pods.containers() {
            if read.containers.contains_key(container.id.as_str()) {
                let pod = container.record().sandbox.to_string();
                containers.entry(pod).or_default().push(container);
            }
        }
        let mut round = Round { read, images: BTreeMap::new(), cgroups: BTreeSet::new() };
        let mut metrics = Vec::new();
        for sandbox in self.pods.sandboxes() {
            let id = sandbox.id.as_str();
            let Some(reading) = round.read.sandboxes.get(id).cloned() else { continue };
            let own = containers.remove(id).unwrap_or_default();
            metrics.push(self.metrics_of_pod(&sandbox, &reading, &own, &mut round));
        }
        Ok(metrics)
    }

    fn metrics_of_pod(
        &self,
        sandbox: &Sandbox,
        reading: &PodReading,
        containers: &[Arc<Container>],
        round: &mut Round,
    ) -> v1::PodSandboxMetrics {
        let (pod, namespace, cgroup, created_at) = {
            let record = sandbox.record();
            let metadata = &record.config.metadata;
            let (pod, namespace) = (metadata.name.clone(), metadata.namespace.clone());
            (pod, namespace, record.cgroup.clone(), record.created_at)
        };
        let path = cgroup.to_string_lossy();
        let labels = Labels { id: &path, namespace: &namespace, pod: &pod, ..Labels::default() };
        let facts = Facts {
            started_at: created_at,
            reading: &reading.reading,
            details: round.read.details.get(sandbox.id.as_str()),
            interfaces: reading.interfaces.as_ref(),
            container: None,
            names: self.pods.device_names(),
        };
        let mut metrics = Vec::new();
        // The same labels twice would cost a kubelet all its metrics, and two sandboxes can
        // be told to have one cgroup.
        if round.cgroups.insert(cgroup.clone()) {
            metrics = self.table.metrics(Subject::Pod, &labels, &facts);
        }
        let of_network = Labels { name: sandbox.id.as_str(), ..labels };
        metrics.extend(self.table.metrics(Subject::Network, &of_network, &facts));
        let of_container = |container: &Arc<Container>| v1::ContainerMetrics {
            container_id: container.id.to_string(),
            metrics: self.metrics_of_container(container, &labels, round),
        };
        v1::PodSandboxMetrics {
            pod_sandbox_id: sandbox.id.to_string(),
            metrics,
            container_metrics: containers.iter().map(of_container).collect(),
        }
    }

    fn metrics_of_container(
        &self,
        container: &Container,
        pod: &Labels<'_>,
        round: &mut Round,
    ) -> Vec<v1::Metric> {
        let id = container.id.as_str();
        let Some(reading) = round.read.containers.get(id).copied() else { return Vec::new() };
        let layer = self.pods.writable_layer(container);
        let image = self.image_of(container, round);
        let (name, cgroup, started_at, resources) = {
            let record = container.record();
            let started_at = match record.phase {
                ContainerPhase::Running { started_at, .. } => started_at,
                _ => record.created_at,
            };
            let name = record.config.metadata.name.clone();
            (name, record.cgroup.clone(), started_at, record.config.resources.clone())
        };
        let path = cgroup.to_string_lossy();
        let labels = Labels { container: &name, id: &path, image: &image, name: id, ..*pod };
        let facts = Facts {
            started_at,
            reading: &reading,
            details: round.read.details.get(id),
            interfaces: None,
            container: Some(OfContainer {
                processes: round.read.processes.get(id),
                layer,
                disk: round.read.disk.as_ref(),
                resources: resources.as_ref(),
            }),
            names: self.pods.device_names(),
        };
        self.table.metrics(Subject::Container, &labels, &facts)
    }

    /// The name of an image that people know, looked up once for all its containers.
    fn image_of(&self, container: &Container, round: &mut Round) -> Arc<str> {
        let (id, reference) = {
            let record = container.record();
            (record.image_id.to_string(), record.image_ref.clone())
        };
        let known = round.images.entry(id).or_insert_with_key(|id| {
            let image = self.pods.images().find(id);
            let tag = image.and_then(|image| image.repo_tags.first().cloned());
            tag.unwrap_or(reference).into()
        });
        Arc::clone(known)
    }
}

/// One answer.
struct Round {
    read: Metrics,
    /// Names by ids.
    images: BTreeMap<String, Arc<str>>,
    /// Those that were told of.
    cgroups: BTreeSet<PathBuf>,
}
