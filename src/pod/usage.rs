//! What pods and containers use. The meters of what runs are kept; a list is answered from a
//! round of readings that is a second old at most, so that many who ask cost no more than one.

mod metrics;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Container, Pods, Sandbox, SandboxPhase, blocking, error::Error, parallel::in_parallel,
};
use crate::stats::{Budget, Interface, Meter, Reading, network};

pub use metrics::Metrics;

/// How old a round of readings may be.
const FRESH: Duration = Duration::from_secs(1);

/// How often processor time is sampled while nobody asks, so that its rate is known at once.
const SAMPLE: Duration = Duration::from_secs(10);

/// Descriptors of meters, at the most; others are opened for each reading. Sixteen for each of
/// the three cgroups of a pod of two containers.
const DESCRIPTORS: usize = 8192;

/// What a pod uses besides its containers.
#[derive(Debug, Clone, Default)]
pub struct PodReading {
    /// Its cgroup.
    pub reading: Reading,
    /// Its interfaces, and when they were read; none with the host's network.
    pub interfaces: Option<(i64, Vec<Interface>)>,
}

/// Meters by id, and the last round.
pub(super) struct Meters {
    budget: Budget,
    // Look-ups and insertions, never across a reading.
    known: Mutex<BTreeMap<String, Arc<Meter>>>,
    round: tokio::sync::Mutex<Round>,
    kept: metrics::Kept,
}

/// Everything that was read at one time.
#[derive(Default)]
struct Round {
    at: Option<Instant>,
    containers: Arc<BTreeMap<String, Reading>>,
    sandboxes: Arc<BTreeMap<String, PodReading>>,
}

impl Round {
    /// Whether a container runs that was not read.
    fn lacks(&self, container: &Container) -> bool {
        container.is_running() && !self.containers.contains_key(container.id.as_str())
    }

    /// The same of a pod that is ready.
    fn lacks_pod(&self, sandbox: &Sandbox) -> bool {
        !self.sandboxes.contains_key(sandbox.id.as_str())
            && sandbox.record().phase == SandboxPhase::Ready
    }
}

impl Meters {
    /// Meters that keep so many descriptors at the most.
    pub(super) fn new(descriptors: usize) -> Self {
        Self {
            budget: Budget::new(descriptors.min(DESCRIPTORS)),
            known: Mutex::default(),
            round: tokio::sync::Mutex::default(),
            kept: metrics::Kept::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Meter>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pods {
    /// What a container uses now; nothing of one that does not run.
    ///
    /// # Errors
    /// When the reading was ended by a panic.
    pub async fn container_usage(
        self: &Arc<Self>,
        container: &Arc<Container>,
    ) -> Result<Option<Reading>, Error> {
        let (pods, container) = (Arc::clone(self), Arc::clone(container));
        blocking::own_files(move || Ok(pods.meter_of_container(&container).map(|m| m.read()))).await
    }

    /// What a pod uses now.
    ///
    /// # Errors
    /// When the reading was ended by a panic.
    pub async fn sandbox_usage(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
    ) -> Result<Option<PodReading>, Error> {
        let (pods, sandbox) = (Arc::clone(self), Arc::clone(sandbox));
        blocking::own_files(move || Ok(pods.read_sandbox(&sandbox))).await
    }

    /// What all containers that run use, by id, a second ago at most.
    ///
    /// # Errors
    /// When the reading was ended by a panic.
    pub async fn containers_usage(
        self: &Arc<Self>,
    ) -> Result<Arc<BTreeMap<String, Reading>>, Error> {
        self.usage_round().await.map(|(containers, _)| containers)
    }

    /// What all pods use, by id, a second ago at most.
    ///
    /// # Errors
    /// When the reading was ended by a panic.
    pub async fn sandboxes_usage(
        self: &Arc<Self>,
    ) -> Result<Arc<BTreeMap<String, PodReading>>, Error> {
        self.usage_round().await.map(|(_, sandboxes)| sandboxes)
    }

    #[allow(clippy::type_complexity, reason = "two maps that are shared")]
    async fn usage_round(
        self: &Arc<Self>,
    ) -> Result<(Arc<BTreeMap<String, Reading>>, Arc<BTreeMap<String, PodReading>>), Error> {
        // Those who ask at the same time wait for the same round.
        let mut round = self.meters.round.lock().await;
        if round.at.is_none_or(|at| at.elapsed() > FRESH) {
            let pods = Arc::clone(self);
            *round = blocking::own_files(move || Ok(pods.read_all())).await?;
        }
        // What began since then is told as well: whoever has started it may ask at once.
        let containers = self.containers();
        let new: Vec<_> = containers.into_iter().filter(|c| round.lacks(c)).collect();
        let sandboxes = self.sandboxes();
        let new_pods: Vec<_> = sandboxes.into_iter().filter(|s| round.lacks_pod(s)).collect();
        if !new.is_empty() || !new_pods.is_empty() {
            let pods = Arc::clone(self);
            let read = move || Ok((pods.read_containers(&new), pods.read_sandboxes(&new_pods)));
            let (containers, sandboxes) = blocking::own_files(read).await?;
            Arc::make_mut(&mut round.containers).extend(containers);
            Arc::make_mut(&mut round.sandboxes).extend(sandboxes);
        }
        Ok((Arc::clone(&round.containers), Arc::clone(&round.sandboxes)))
    }

    fn read_all(&self) -> Round {
        self.forget_meters();
        let containers = self.read_containers(&self.containers());
        let sandboxes = self.read_sandboxes(&self.sandboxes());
        Round {
            at: Some(Instant::now()),
            containers: Arc::new(containers.into_iter().collect()),
            sandboxes: Arc::new(sandboxes.into_iter().collect()),
        }
    }

    fn read_containers(&self, containers: &[Arc<Container>]) -> Vec<(String, Reading)> {
        in_parallel(containers, |container| {
            Some((container.id.to_string(), self.meter_of_container(container)?.read()))
        })
    }

    fn read_sandboxes(&self, sandboxes: &[Arc<Sandbox>]) -> Vec<(String, PodReading)> {
        in_parallel(sandboxes, |sandbox| {
            Some((sandbox.id.to_string(), self.read_sandbox(sandbox)?))
        })
    }

    fn read_sandbox(&self, sandbox: &Sandbox) -> Option<PodReading> {
        let (pid, has_network) = {
            let record = sandbox.record();
            if record.phase != SandboxPhase::Ready {
                return None;
            }
            (record.monitor_pid, record.netns.is_some())
        };
        // The cgroup of a pod is made with its first container; its network is there before.
        let nothing = || Reading { at: super::time::now(), ..Reading::default() };
        let reading = self.meter_of_sandbox(sandbox).map_or_else(nothing, |meter| meter.read());
        let interfaces = has_network.then(|| network(pid).ok()).flatten();
        Some(PodReading { reading, interfaces: interfaces.map(|all| (super::time::now(), all)) })
    }

    fn meter_of_container(&self, container: &Container) -> Option<Arc<Meter>> {
        if !container.is_running() {
            return None;
        }
        self.meter(container.id.as_str(), || container.record().cgroup.clone())
    }

    fn meter_of_sandbox(&self, sandbox: &Sandbox) -> Option<Arc<Meter>> {
        if sandbox.record().phase != SandboxPhase::Ready {
            return None;
        }
        self.meter(sandbox.id.as_str(), || sandbox.record().cgroup.clone())
    }

    fn meter(&self, id: &str, cgroup: impl FnOnce() -> std::path::PathBuf) -> Option<Arc<Meter>> {
        if let Some(meter) = self.meters.known().get(id) {
            return Some(Arc::clone(meter));
        }
        let meter = Meter::open(self.parts.cgroups, &cgroup(), &self.meters.budget)?;
        let meter = Arc::new(meter);
        self.meters.known().insert(id.to_owned(), Arc::clone(&meter));
        Some(meter)
    }

    /// Lets go of the meters of what runs no more.
    fn forget_meters(&self) {
        let runs = |id: &str| {
            self.container(id).is_ok_and(|container| container.is_running())
                || self
                    .sandbox(id)
                    .is_ok_and(|sandbox| sandbox.record().phase == SandboxPhase::Ready)
        };
        let gone: Vec<String> =
            self.meters.known().keys().filter(|id| !runs(id)).cloned().collect();
        let mut known = self.meters.known();
        for id in gone {
            known.remove(&id);
        }
    }

    /// Samples processor time for as long as the daemon lives.
    pub(super) fn sample_usage(self: &Arc<Self>) {
        let pods = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SAMPLE).await;
                let Some(pods) = pods.upgrade() else { return };
                let sampled = blocking::own_files(move || {
                    pods.sample_all();
                    Ok(())
                });
                // The next round tries again.
                let _ = sampled.await;
            }
        });
    }

    fn sample_all(&self) {
        self.forget_meters();
        for container in self.containers() {
            if let Some(meter) = self.meter_of_container(&container) {
                meter.sample();
            }
        }
        for sandbox in self.sandboxes() {
            if let Some(meter) = self.meter_of_sandbox(&sandbox) {
                meter.sample();
            }
        }
    }
}
