//! How far pulls have come, for whoever watches them. Pulls that share a layer share its
//! figures as well.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
};

use super::Digest;

/// What happens to a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// Others are downloaded first.
    Waiting,
    /// It is downloaded, and unpacked as it comes.
    Fetching,
    /// All of it is here, and some of it is still to be unpacked.
    Unpacking,
    /// It is unpacked.
    Complete,
    /// It was here before.
    Present,
}

impl LayerState {
    const ALL: [LayerState; 5] =
        [Self::Waiting, Self::Fetching, Self::Unpacking, Self::Complete, Self::Present];
}

/// A layer of a running pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerProgress {
    /// The digest of its compressed form.
    pub digest: Digest,
    /// What happens to it.
    pub state: LayerState,
    /// Bytes of its compressed form; 0 when the manifest does not say.
    pub size: u64,
    /// How many of them are here.
    pub fetched: u64,
    /// How many of them are decompressed and written to files.
    pub unpacked: u64,
}

/// A running pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullProgress {
    /// The normalized reference.
    pub reference: String,
    /// The image's layers, the lowest first; none as long as its manifest is awaited.
    pub layers: Vec<LayerProgress>,
}

/// The figures of one layer, written by those who work on it.
pub(super) struct Counters {
    digest: Digest,
    size: u64,
    state: AtomicU8,
    fetched: AtomicU64,
    unpacked: AtomicU64,
}

impl Counters {
    pub(super) fn set(&self, state: LayerState) {
        self.state.store(state as u8, Relaxed);
    }

    /// It was here before, unless this very pull has brought it.
    pub(super) fn set_present(&self) {
        let (waiting, present) = (LayerState::Waiting as u8, LayerState::Present as u8);
        self.state.compare_exchange(waiting, present, Relaxed, Relaxed).ok();
    }

    /// Starts again, with what is here already.
    pub(super) fn begin(&self, fetched: u64) {
        self.fetched.store(fetched, Relaxed);
        self.unpacked.store(0, Relaxed);
        self.set(LayerState::Fetching);
    }

    pub(super) fn fetched(&self, bytes: u64) {
        self.fetched.fetch_add(bytes, Relaxed);
    }

    pub(super) fn unpacked(&self, bytes: u64) {
        self.unpacked.fetch_add(bytes, Relaxed);
    }

    fn progress(&self) -> LayerProgress {
        let (size, fetched) = (self.size, self.fetched.load(Relaxed));
        let state = match LayerState::ALL[usize::from(self.state.load(Relaxed))] {
            LayerState::Fetching if size > 0 && fetched >= size => LayerState::Unpacking,
            state => state,
        };
        LayerProgress {
            digest: self.digest,
            state,
            size,
            fetched,
            unpacked: self.unpacked.load(Relaxed),
        }
    }
}

type Key = (Digest, Digest);

/// All pulls that are under way.
#[derive(Default)]
pub(super) struct Pulls {
    // A short critical section: look-ups and copies.
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    running: BTreeMap<u64, Running>,
    next: u64,
    layers: HashMap<Key, Weak<Counters>>,
}

struct Running {
    reference: String,
    layers: Vec<Arc<Counters>>,
}

/// A pull's place among those that are under way, until it is dropped.
pub(super) struct Watched {
    pulls: Arc<Pulls>,
    number: u64,
}

impl Pulls {
    pub(super) fn begin(self: &Arc<Self>, reference: String) -> Watched {
        let mut table = self.lock();
        let number = table.next;
        table.next += 1;
        table.running.insert(number, Running { reference, layers: Vec::new() });
        Watched { pulls: self.clone(), number }
    }

    pub(super) fn list(&self) -> Vec<PullProgress> {
        self.lock().running.values().map(Running::progress).collect()
    }

    pub(super) fn find(&self, reference: &str) -> Option<PullProgress> {
        let table = self.lock();
        table.running.values().find(|pull| pull.reference == reference).map(Running::progress)
    }

    /// The figures of a layer, by the digests of its compressed form and of its content.
    pub(super) fn layer(&self, key: Key, size: u64) -> Arc<Counters> {
        let mut table = self.lock();
        if let Some(counters) = table.layers.get(&key).and_then(Weak::upgrade) {
            return counters;
        }
        table.layers.retain(|_, counters| counters.strong_count() > 0);
        let counters = Arc::new(Counters {
            digest: key.0,
            size,
            state: AtomicU8::new(LayerState::Waiting as u8),
            fetched: AtomicU64::new(0),
            unpacked: AtomicU64::new(0),
        });
        table.layers.insert(key, Arc::downgrade(&counters));
        counters
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn progress(&self) -> PullProgress {
        PullProgress {
            reference: self.reference.clone(),
            layers: self.layers.iter().map(|counters| counters.progress()).collect(),
        }
    }
}

impl Watched {
    pub(super) fn has_layers(&self, layers: Vec<Arc<Counters>>) {
        if let Some(running) = self.pulls.lock().running.get_mut(&self.number) {
            running.layers = layers;
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.pulls.lock().running.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulls_of_one_layer_share_its_figures() {
        let pulls = Arc::new(Pulls::default());
        let key = (Digest::of(b"compressed"), Digest::of(b"plain"));
        let (first, second) = (pulls.begin("a:1".to_owned()), pulls.begin("b:1".to_owned()));
        let counters = pulls.layer(key, 10);
        first.has_layers(vec![counters.clone()]);
        second.has_layers(vec![pulls.layer(key, 10)]);
        counters.begin(3);
        counters.fetched(4);
        let shown = pulls.find("b:1").unwrap().layers.remove(0);
        assert_eq!((shown.state, shown.fetched, shown.size), (LayerState::Fetching, 7, 10));
        counters.fetched(3);
        assert_eq!(pulls.find("a:1").unwrap().layers[0].state, LayerState::Unpacking);
        drop(first);
        assert_eq!(pulls.list().len(), 1);
        assert_eq!(pulls.find("a:1"), None);
    }
}
