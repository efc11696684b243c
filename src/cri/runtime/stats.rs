//! What the calls about figures have in common.

use std::{collections::BTreeMap, sync::Arc};

use tonic::Status;

use super::{RuntimeServer, selects};
use crate::{
    cri::{convert, v1},
    pod::{Container, PodReading, Sandbox},
    stats::Reading,
};

impl RuntimeServer {
    /// The figures of a container with a reading or without.
    pub(super) fn stats_of(
        &self,
        container: &Container,
        reading: Option<&Reading>,
    ) -> v1::ContainerStats {
        let root = self.pods.options().root.join("containers");
        let written = self.pods.writable_layer(container);
        convert::container_stats(container, reading, &root, written)
    }

    /// The figures of the containers that run, and that the filter lets through.
    pub(super) async fn filtered_container_stats(
        &self,
        filter: &v1::ContainerStatsFilter,
    ) -> Result<Vec<v1::ContainerStats>, Status> {
        let readings = self.pods.containers_usage().await?;
        let containers = self.pods.containers_by(&filter.pod_sandbox_id, &filter.id);
        let figures = containers.iter().filter_map(|container| {
            let reading = readings.get(container.id.as_str())?;
            let is_wanted = {
                let record = container.record();
                selects(&filter.label_selector, || &record.config.labels)
            };
            is_wanted.then(|| self.stats_of(container, Some(reading)))
        });
        Ok(figures.collect())
    }

    /// The figures of the pods that are ready, and that the filter lets through.
    pub(super) async fn filtered_sandbox_stats(
        &self,
        filter: &v1::PodSandboxStatsFilter,
    ) -> Result<Vec<v1::PodSandboxStats>, Status> {
        let (of_containers, of_sandboxes) =
            tokio::try_join!(self.pods.containers_usage(), self.pods.sandboxes_usage())?;
        let mut containers: BTreeMap<String, Vec<Arc<Container>>> = BTreeMap::new();
        for container in self.pods.containers() {
            let pod = container.record().sandbox.to_string();
            containers.entry(pod).or_default().push(container);
        }
        let sandboxes = self.pods.sandboxes_by(&filter.id);
        let figures = sandboxes.iter().filter_map(|sandbox| {
            let reading = of_sandboxes.get(sandbox.id.as_str())?;
            let is_wanted = {
                let record = sandbox.record();
                selects(&filter.label_selector, || &record.config.labels)
            };
            let own = containers.get(sandbox.id.as_str()).map_or(&[][..], Vec::as_slice);
            is_wanted.then(|| self.sandbox_stats(sandbox, Some(reading), own, &of_containers))
        });
        Ok(figures.collect())
    }

    /// The figures of a pod with those of its containers that have a reading.
    pub(super) fn sandbox_stats(
        &self,
        sandbox: &Sandbox,
        reading: Option<&PodReading>,
        containers: &[Arc<Container>],
        readings: &BTreeMap<String, Reading>,
    ) -> v1::PodSandboxStats {
        let of_containers = containers.iter().filter_map(|container| {
            let reading = readings.get(container.id.as_str())?;
            Some(self.stats_of(container, Some(reading)))
        });
        convert::sandbox_stats(sandbox, reading, of_containers.collect())
    }
}
