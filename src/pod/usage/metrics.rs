//! What metrics tell beyond what statistics do.
//!
//! Nothing here waits for a disk or for a walk through what a container has: whoever asks gets
//! the last figures, and asking starts the next look in the background. What has no figure yet
//! is waited for a moment, so that a new container is there in the first answer after its start.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::timeout;

use super::{FEW, FRESH, PodReading};
use crate::{
    pod::{Container, Pods, Sandbox, blocking, error::Error, memory, parallel::in_parallel, time},
    stats::{self, Details, DeviceNames, Disk, Processes, Reading},
};

/// How old may be what is looked at in the background.
const FRESH_ASIDE: Duration = Duration::from_secs(10);

/// How long a first look is waited for.
const FIRST: Duration = Duration::from_millis(250);

/// Processes and descriptors that are counted on the way of a call, where a container was not
/// counted yet, and all that are so counted in one call.
const FIRST_COUNT: [u64; 2] = [2048, 16_384];

/// Everything that there is to tell, by id.
pub struct Metrics {
    /// Containers that run.
    pub containers: Arc<BTreeMap<String, Reading>>,
    /// Pods that are ready.
    pub sandboxes: Arc<BTreeMap<String, PodReading>>,
    /// Both.
    pub details: Arc<BTreeMap<String, Arc<Details>>>,
    /// Containers.
    pub processes: BTreeMap<String, Processes>,
    /// What containers write to, and when that was looked at.
    pub disk: Option<(i64, Disk)>,
}

/// What is kept between calls.
#[derive(Default)]
pub(super) struct Kept {
    round: tokio::sync::Mutex<Round>,
    /// Names of devices.
    names: DeviceNames,
    // Look-ups and insertions, never across a look.
    processes: Mutex<BTreeMap<String, Processes>>,
    counted: Mutex<Option<Instant>>,
    is_counting: AtomicBool,
    disk: Mutex<Option<(Instant, i64, Disk)>>,
    is_looking: AtomicBool,
}

/// What has details.
enum Either {
    Container(Arc<Container>),
    Sandbox(Arc<Sandbox>),
}

#[derive(Default)]
struct Round {
    at: Option<Instant>,
    details: Arc<BTreeMap<String, Arc<Details>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pods {
    /// Everything that there is to tell, a second old at most but for what is looked at in the
    /// background.
    ///
    /// # Errors
    /// When the reading was ended by a panic.
    pub async fn metrics(self: &Arc<Self>) -> Result<Metrics, Error> {
        let (containers, sandboxes) =
            tokio::try_join!(self.containers_usage(), self.sandboxes_usage())?;
        let details = self.details_round(&containers, &sandboxes).await?;
        let first = async {
            tokio::join!(self.look_at_disk(), self.measure_unknown(containers.keys()));
        };
        // A disk that hangs takes its own figures along, and no others.
        let _ = timeout(FIRST, first).await;
        self.count_if_old();
        // An answer of some megabytes.
        self.freed.add(memory::PER_METRICS);
        let kept = &self.meters.kept;
        let disk = lock(&kept.disk).as_ref().map(|(_, at, disk)| (*at, disk.clone()));
        let processes = lock(&kept.processes).clone();
        Ok(Metrics { containers, sandboxes, details, processes, disk })
    }

    /// The names of block devices.
    pub fn device_names(&self) -> &DeviceNames {
        &self.meters.kept.names
    }

    async fn details_round(
        self: &Arc<Self>,
        containers: &Arc<BTreeMap<String, Reading>>,
        sandboxes: &Arc<BTreeMap<String, PodReading>>,
    ) -> Result<Arc<BTreeMap<String, Arc<Details>>>, Error> {
        let mut round = self.meters.kept.round.lock().await;
        if round.at.is_some_and(|at| at.elapsed() > FRESH) {
            *round = Round::default();
        }
        let is_new = |id: &str| !round.details.contains_key(id);
        let mut new = self.containers();
        new.retain(|container| is_new(container.id.as_str()));
        let mut new_pods = self.sandboxes();
        new_pods.retain(|sandbox| is_new(sandbox.id.as_str()));
        if !new.is_empty() || !new_pods.is_empty() {
            let (pods, containers) = (Arc::clone(self), Arc::clone(containers));
            let sandboxes = Arc::clone(sandboxes);
            let read = move || {
                pods.count_new(&new);
                let pools = stats::hugepage_pools();
                let new = new.into_iter().map(Either::Container);
                let all = new.chain(new_pods.into_iter().map(Either::Sandbox)).collect();
                Ok(in_parallel(FEW, all, move |one| {
                    let (id, reading, meter) = match one {
                        Either::Container(container) => {
                            let id = container.id.as_str();
                            (id, containers.get(id)?, pods.meter_of_container(container)?)
                        }
                        Either::Sandbox(sandbox) => {
                            let id = sandbox.id.as_str();
                            let reading = &sandboxes.get(id)?.reading;
                            (id, reading, pods.meter_of_sandbox(sandbox)?)
                        }
                    };
                    Some((id.to_owned(), meter.details(reading, &pools)))
                }))
            };
            let details = blocking::own_files(read).await?;
            round.at.get_or_insert_with(Instant::now);
            Arc::make_mut(&mut round.details).extend(details);
        }
        Ok(Arc::clone(&round.details))
    }

    /// Counts what those have open that were not counted yet.
    fn count_new(&self, containers: &[Arc<Container>]) {
        let [each, mut left] = FIRST_COUNT;
        for container in containers {
            let is_known = || lock(&self.meters.kept.processes).contains_key(container.id.as_str());
            let Some(meter) = self.meter_of_container(container).filter(|_| !is_known()) else {
                continue;
            };
            if let Some(counted) = stats::processes(meter.directory(), each.min(left)) {
                left = left.saturating_sub(counted.processes + counted.descriptors);
                lock(&self.meters.kept.processes).insert(container.id.to_string(), counted);
            }
        }
    }

    /// Counts what all containers have open, in the background.
    fn count_if_old(self: &Arc<Self>) {
        let kept = &self.meters.kept;
        let is_fresh = lock(&kept.counted).is_some_and(|at| at.elapsed() < FRESH_ASIDE);
        if is_fresh || kept.is_counting.swap(true, Ordering::AcqRel) {
            return;
        }
        let pods = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let mut running = BTreeSet::new();
            for container in pods.containers() {
                let Some(meter) = pods.meter_of_container(&container) else { continue };
                let id = container.id.to_string();
                if let Some(counted) = stats::processes(meter.directory(), u64::MAX) {
                    lock(&pods.meters.kept.processes).insert(id.clone(), counted);
                }
                running.insert(id);
            }
            let kept = &pods.meters.kept;
            lock(&kept.processes).retain(|id, _| running.contains(id));
            *lock(&kept.counted) = Some(Instant::now());
            kept.is_counting.store(false, Ordering::Release);
        });
    }

    /// Looks at the disk where the last look is old; waits where there was none.
    async fn look_at_disk(self: &Arc<Self>) {
        let kept = &self.meters.kept;
        let age = lock(&kept.disk).as_ref().map(|(at, ..)| at.elapsed());
        let is_fresh = age.is_some_and(|age| age < FRESH_ASIDE);
        if is_fresh || kept.is_looking.swap(true, Ordering::AcqRel) {
            return;
        }
        let pods = Arc::clone(self);
        let look = tokio::task::spawn_blocking(move || {
            let kept = &pods.meters.kept;
            if let Ok(disk) = stats::disk(&pods.options.root) {
                *lock(&kept.disk) = Some((Instant::now(), time::now(), disk));
            }
            kept.is_looking.store(false, Ordering::Release);
        });
        if age.is_none() {
            // Whatever it came to: there are figures by then or there are none.
            let _ = look.await;
        }
    }
}
