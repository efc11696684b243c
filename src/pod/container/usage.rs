//! What containers have written to their own layers: from the file system, where it counts
//! projects, otherwise by a walk.
//!
//! Nobody who asks waits for a walk through files: the answer is the last measurement, and
//! where that is older than [`FRESH`], asking starts the next one in the background. A
//! container that has ended is measured once more and then no longer. A daemon that nobody
//! asks measures nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

pub use crate::sys::tree::Usage;
use crate::{
    pod::{Pods, container::Container, id::ContainerId},
    sys::tree,
};

/// How old a measurement may be; as often as the others measure.
pub const FRESH: Duration = Duration::from_secs(10);

/// What one container's layer takes, and when that was so.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Space.
    pub usage: Usage,
    /// By the wall clock.
    pub at: SystemTime,
    /// Nothing changes it any more.
    is_final: bool,
}

#[cfg(test)]
impl Measured {
    /// One of a container that runs.
    pub fn new(usage: Usage, at: SystemTime) -> Self {
        Self { usage, at, is_final: false }
    }
}

/// The last measurements.
#[derive(Debug, Default)]
pub(in crate::pod) struct Measurements {
    // Look-ups and single insertions, never across a walk.
    known: Mutex<Known>,
    is_measuring: AtomicBool,
    is_measuring_unknown: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    by_container: BTreeMap<ContainerId, Measured>,
    /// When the last round ended.
    round: Option<Instant>,
}

impl Pods {
    /// What a container has written, as of the last measurement; nothing before the first.
    pub fn writable_layer(self: &Arc<Self>, container: &Container) -> Option<Measured> {
        self.measure_if_old();
        self.measurements.lock().by_container.get(&container.id).copied()
    }

    /// What all containers have written, as of the last measurement, and when that was; nothing
    /// before the first.
    pub fn writable_layers(self: &Arc<Self>) -> Option<(Usage, SystemTime)> {
        self.measure_if_old();
        let known = self.measurements.lock();
        known.round?;
        let all = known.by_container.values();
        Some(all.fold((Usage::default(), SystemTime::now()), |(sum, at), measured| {
            let Usage { bytes, inodes } = measured.usage;
            let sum = Usage { bytes: sum.bytes + bytes, inodes: sum.inodes + inodes };
            (sum, if measured.is_final { at } else { at.min(measured.at) })
        }))
    }

    fn measure_if_old(self: &Arc<Self>) {
        let is_fresh = self.measurements.lock().round.is_some_and(|end| end.elapsed() < FRESH);
        if is_fresh || self.measurements.is_measuring.swap(true, Ordering::AcqRel) {
            return;
        }
        let pods = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            pods.measure();
            pods.measurements.is_measuring.store(false, Ordering::Release);
        });
    }

    /// Measures those of these containers that have no figure yet, and waits for that.
    pub(in crate::pod) async fn measure_unknown(
        self: &Arc<Self>,
        ids: impl Iterator<Item = &String>,
    ) {
        self.measure_if_old();
        let unknown: Vec<Arc<Container>> = {
            let known = self.measurements.lock();
            let containers = ids.filter_map(|id| self.container(id).ok());
            containers.filter(|container| !known.by_container.contains_key(&container.id)).collect()
        };
        let is_measuring = &self.measurements.is_measuring_unknown;
        if unknown.is_empty() || is_measuring.swap(true, Ordering::AcqRel) {
            return;
        }
        let pods = Arc::clone(self);
        let measuring = tokio::task::spawn_blocking(move || {
            unknown.iter().for_each(|container| pods.measure_one(container));
            pods.measurements.is_measuring_unknown.store(false, Ordering::Release);
        });
        // Whatever it came to: there are figures by then or there are none.
        let _ = measuring.await;
    }

    fn measure(&self) {
        let containers = self.containers();
        let ids: BTreeSet<ContainerId> = containers.iter().map(|c| c.id.clone()).collect();
        self.measurements.lock().by_container.retain(|id, _| ids.contains(id));
        for container in containers {
            let known = self.measurements.lock().by_container.get(&container.id).copied();
            if known.is_none_or(|known| !known.is_final) {
                self.measure_one(&container);
            }
        }
        self.measurements.lock().round = Some(Instant::now());
    }

    fn measure_one(&self, container: &Container) {
        // Asked before the walk: what was written until its end is counted.
        let is_final = container.has_ended();
        // One that cannot be read has no figures, and takes nobody else's along.
        let counted = self.layers.usage(container.record().project);
        let walked = || {
            let Usage { bytes, inodes } =
                tree::usage_at(&self.upper_directory(&container.id)).ok()?;
            // Most have none.
            let volumes = tree::usage_at(&self.volumes_directory(&container.id));
            let volumes = volumes.unwrap_or_default();
            Some(Usage { bytes: bytes + volumes.bytes, inodes: inodes + volumes.inodes })
        };
        let Some(usage) = counted.or_else(walked) else { return };
        let measured = Measured { usage, at: SystemTime::now(), is_final };
        self.measurements.lock().by_container.insert(container.id.clone(), measured);
    }
}

impl Measurements {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
