//! What pods and containers use. The meters of what runs are kept; a list is answered from a
//! round of readings that is a second old at most, so that many who ask cost no more than one.

mod metrics;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Container, Pods, Sandbox, SandboxId, SandboxPhase, blocking, error::Error,
    parallel::in_parallel,
};
use crate::stats::{Budget, Interface, Interfaces, Meter, Reading};

pub use metrics::Metrics;

/// How old a round of readings may be.
const FRESH: Duration = Duration::from_secs(1);

/// How often processor time is sampled while nobody asks, so that its rate is known at once.
const SAMPLE: Duration = Duration::from_secs(10);

/// Pods that are read by one thread rather than several.
const FEW: usize = 16;

/// Descriptors of meters, at the most; others are opened for each reading. Sixteen for each of
/// the three cgroups of a pod of two containers.
const DESCRIPTORS: usize = 8192;

/// What a pod uses besides its containers.
#[derive(Debug, Clone, Default)]
pub struct PodReading {
    /// Its cgroup.
    pub reading: Reading,
    /// Processes and threads in it.
    pub threads: Option<u64>,
    /// Its interfaces, and when they were read; none with the host's network.
    pub interfaces: Option<(i64, Vec<Interface>)>,
}

/// Meters by id, and the last round.
pub(super) struct Meters {
    budget: Budget,
    // Look-ups and insertions, never across a reading.
    known: Mutex<BTreeMap<String, Arc<Meter>>>,
    // The same. They hold the namespaces of pods.
    networks: Mutex<BTreeMap<String, Arc<Interfaces>>>,
    containers: tokio::sync::Mutex<Round<Reading>>,
    sandboxes: tokio::sync::Mutex<Round<PodReading>>,
    kept: metrics::Kept,
}

/// What was read at one time, by id.
struct Round<T> {
    at: Option<Instant>,
    readings: Arc<BTreeMap<String, T>>,
}

impl<T> Default for Round<T> {
    fn default() -> Self {
        Self { at: None, readings: Arc::default() }
    }
}

impl<T: Clone> Round<T> {
    /// Begins anew where it is old, and tells whom it lacks. Its age is looked at here alone: a
    /// round that grew old on the way would be taken for one of those few.
    fn lacking<O>(
        &mut self,
        all: Vec<Arc<O>>,
        lacks: impl Fn(&O, &BTreeMap<String, T>) -> bool,
    ) -> Vec<Arc<O>> {
        if self.at.is_some_and(|at| at.elapsed() > FRESH) {
            *self = Self::default();
        }
        all.into_iter().filter(|one| lacks(one, &self.readings)).collect()
    }

    /// Adds what was read; the first of it says how old the round is.
    fn add(&mut self, readings: Vec<(String, T)>) {
        self.at.get_or_insert_with(Instant::now);
        Arc::make_mut(&mut self.readings).extend(readings);
    }
}

impl Meters {
    /// Meters that keep so many descriptors at the most.
    pub(super) fn new(descriptors: usize) -> Self {
        Self {
            budget: Budget::new(descriptors.min(DESCRIPTORS)),
            known: Mutex::default(),
            networks: Mutex::default(),
            containers: tokio::sync::Mutex::default(),
            sandboxes: tokio::sync::Mutex::default(),
            kept: metrics::Kept::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Meter>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn networks(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Interfaces>>> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
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
        let read = move || Ok(pods.meter_of_container(&container).map(|meter| meter.read(None)));
        blocking::own_files(read).await
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
        // Those who ask at the same time wait for the same round.
        let mut round = self.meters.containers.lock().await;
        // What began since the last one is told as well: whoever has started it may ask at once.
        let lacking = round.lacking(self.containers(), |container, known| {
            container.is_running() && !known.contains_key(container.id.as_str())
        });
        if !lacking.is_empty() {
            let pods = Arc::clone(self);
            let read = move || Ok(pods.read_containers(lacking));
            round.add(blocking::own_files(read).await?);
        }
        Ok(Arc::clone(&round.readings))
    }

    /// What all pods use, by id, a second ago at most.
    ///
    /// # Errors
    /// When the reading was ended by a panic.
    pub async fn sandboxes_usage(
        self: &Arc<Self>,
    ) -> Result<Arc<BTreeMap<String, PodReading>>, Error> {
        let mut round = self.meters.sandboxes.lock().await;
        let lacking = round.lacking(self.sandboxes(), |sandbox, known| {
            let is_ready = sandbox.record().phase == SandboxPhase::Ready;
            is_ready && !known.contains_key(sandbox.id.as_str())
        });
        if !lacking.is_empty() {
            let pods = Arc::clone(self);
            let read = move || Ok(pods.read_sandboxes(lacking));
            round.add(blocking::own_files(read).await?);
        }
        Ok(Arc::clone(&round.readings))
    }

    fn read_containers(
        self: &Arc<Self>,
        containers: Vec<Arc<Container>>,
    ) -> Vec<(String, Reading)> {
        let mut of_pods: HashMap<SandboxId, Vec<Arc<Container>>> = HashMap::new();
        for container in containers {
            let pod = container.record().sandbox.clone();
            of_pods.entry(pod).or_default().push(container);
        }
        let pods = Arc::clone(self);
        let read = in_parallel(FEW, of_pods.into_iter().collect(), move |(pod, containers)| {
            let above = pods.cpu_time_above(pod, containers);
            let read = |container: &Arc<Container>| {
                Some((container.id.to_string(), pods.meter_of_container(container)?.read(above)))
            };
            Some(containers.iter().filter_map(read).collect::<Vec<_>>())
        });
        read.into_iter().flatten().collect()
    }

    /// Processor time of a pod that has several of the containers: where nobody has run in it, one
    /// file tells of all of them.
    fn cpu_time_above(&self, pod: &SandboxId, containers: &[Arc<Container>]) -> Option<u64> {
        let [_, _, ..] = containers else { return None };
        self.meter_of_sandbox(&*self.sandbox(pod.as_str()).ok()?)?.cpu_time()
    }

    fn read_sandboxes(self: &Arc<Self>, sandboxes: Vec<Arc<Sandbox>>) -> Vec<(String, PodReading)> {
        let pods = Arc::clone(self);
        in_parallel(FEW, sandboxes, move |sandbox| {
            Some((sandbox.id.to_string(), pods.read_sandbox(sandbox)?))
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
        let meter = self.meter_of_sandbox(sandbox);
        let reading = meter.as_ref().map_or_else(nothing, |meter| meter.read(None));
        let threads = meter.and_then(|meter| meter.threads(&reading));
        let interfaces = has_network.then(|| self.interfaces(sandbox, pid).read()).flatten();
        let interfaces = interfaces.map(|all| (super::time::now(), all));
        Some(PodReading { reading, threads, interfaces })
    }

    fn interfaces(&self, sandbox: &Sandbox, monitor: u32) -> Arc<Interfaces> {
        let mut networks = self.meters.networks();
        let interfaces = networks
            .entry(sandbox.id.to_string())
            .or_insert_with(|| Arc::new(Interfaces::of(monitor, &self.meters.budget)));
        Arc::clone(interfaces)
    }

    /// A pod ends: its network namespace is to go with it.
    pub(super) fn forget_network(&self, sandbox: &Sandbox) {
        self.meters.networks().remove(sandbox.id.as_str());
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
        self.meter(sandbox.id.as_str(), || sandbox.record().pod_cgroup().to_owned())
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

    /// The limits of a pod or container were changed.
    pub(super) fn limits_changed(&self, id: &str) {
        if let Some(meter) = self.meters.known().get(id) {
            meter.forget_limits();
        }
    }

    /// Lets go of the meters of what runs no more.
    fn forget_meters(&self) {
        let (containers, sandboxes) = (self.containers(), self.sandboxes());
        let containers = containers.iter().filter(|container| container.is_running());
        let is_ready = |sandbox: &&Arc<Sandbox>| sandbox.record().phase == SandboxPhase::Ready;
        let sandboxes = sandboxes.iter().filter(is_ready);
        let running: HashSet<&str> = containers
            .map(|container| container.id.as_str())
            .chain(sandboxes.map(|sandbox| sandbox.id.as_str()))
            .collect();
        // One that has begun meanwhile gets another one.
        self.meters.known().retain(|id, _| running.contains(id.as_str()));
        self.meters.networks().retain(|id, _| running.contains(id.as_str()));
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

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::Arc,
        time::{Duration, Instant},
    };

    use super::{FRESH, Round};

    fn lacks(one: &String, known: &BTreeMap<String, u8>) -> bool {
        !known.contains_key(one)
    }

    #[test]
    fn a_round_that_grows_old_while_it_is_completed_keeps_everybody() {
        let all = ["a", "b"].map(|name| Arc::new(name.to_owned()));
        let mut round = Round::default();
        assert_eq!(round.lacking(all[..1].to_vec(), lacks).len(), 1);
        round.add(vec![("a".to_owned(), 1)]);
        assert_eq!(round.lacking(all.to_vec(), lacks), all[1..], "what is fresh is kept");
        // A second passes while the other one is read.
        round.at = Instant::now().checked_sub(FRESH + Duration::from_millis(1));
        round.add(vec![("b".to_owned(), 2)]);
        assert_eq!(round.readings.len(), 2, "nobody is lost");
        assert_eq!(round.lacking(all.to_vec(), lacks), all, "and now all are read anew");
    }
}
