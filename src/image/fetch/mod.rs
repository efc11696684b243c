//! From a layer that an image wants to one that is unpacked: the one that is here, the one
//! that is on its way, or a new one. A large layer goes through a spool, which several
//! connections fill and which survives the daemon; the bytes of a small one go straight from
//! the connection to the unpacker.

mod sinks;

use std::{io::Read, ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};
use tokio_util::task::TaskTracker;

use super::{
    Digest, Error,
    join::Joint,
    layers::Lease,
    metrics::Metrics,
    progress::{Counters, LayerState},
    records::Records,
    registry::{Blob, Interrupted, SharedSession},
    spool::Spool,
    stream::{ALWAYS_ALLOWED, Bounds, Expected, Stop, StopOnDrop, unpack_layer, write_file},
};
use crate::kind::Kind;
use sinks::{Counted, Direct, Parts, Writer};

/// Parts of a layer that wait to be decompressed.
const PARTS: usize = 8;
/// Ranges of one request: short enough that all connections work until the end, and long
/// enough that few requests are made.
const SHORTEST_RANGE: u64 = 4 << 20;
const LONGEST_RANGE: u64 = 64 << 20;

/// All pulls together run at most this many times the downloads of one.
const PULLS_AT_ONCE: usize = 4;
/// And at most this many times as many requests for ranges, each of which has buffers.
const RANGES_AT_ONCE: usize = 2;

/// What the downloads of all pulls share.
pub(super) struct Downloads {
    pub(super) records: Arc<Records>,
    pub(super) metrics: Metrics,
    permits: Arc<Semaphore>,
    /// Requests for ranges of large layers.
    connections: Semaphore,
    under_way: Joint<(Digest, Digest), Lease>,
}

impl Downloads {
    pub(super) fn new(records: Arc<Records>) -> Self {
        let parallel = records.options.max_parallel_downloads.max(1);
        let permits = Arc::new(Semaphore::new(parallel * PULLS_AT_ONCE));
        let connections = Semaphore::new(parallel * RANGES_AT_ONCE);
        let (metrics, under_way) = (Metrics::default(), Joint::default());
        Self { records, metrics, permits, connections, under_way }
    }
}

/// What the layers of one pull share.
#[derive(Clone)]
pub(super) struct Fetch {
    pub(super) downloads: Arc<Downloads>,
    pub(super) session: SharedSession,
    /// The layers that are being unpacked.
    pub(super) unpacking: TaskTracker,
}

/// What is downloaded.
#[derive(Clone)]
pub(super) enum Content {
    /// The archive of a layer, perhaps compressed.
    Archive,
    /// One file of an artifact, by its name.
    File(String),
}

/// A layer of the image: what to download, and what it must turn out to be.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) compressed: Digest,
    pub(super) size: u64,
    pub(super) diff_id: Digest,
    pub(super) content: Content,
    pub(super) counters: Arc<Counters>,
}

impl Fetch {
    pub(super) async fn layer(&self, wanted: Wanted) -> Result<Lease, Error> {
        let metrics = &self.downloads.metrics;
        loop {
            if let Some(lease) = self.records().layers.find(&wanted.diff_id) {
                wanted.counters.set_present();
                metrics.layers_reused(1);
                return Ok(lease);
            }
            let key = (wanted.compressed, wanted.diff_id);
            let start = || self.clone().download(wanted.clone());
            match self.downloads.under_way.run(key, start).await {
                (_, Ok(lease)) => return Ok(lease),
                (true, Err(error)) => return Err(Error::Joined(error)),
                // Another pull failed, perhaps for its own credentials or hosts.
                (false, Err(error)) => {
                    tracing::debug!(%error, "joined download failed; trying alone")
                }
            }
        }
    }

    /// Downloads, verifies and unpacks one layer in one pass.
    pub(super) async fn download(self, wanted: Wanted) -> Result<Lease, Error> {
        let permit = self.downloads.permits.clone().acquire_owned().await;
        let permit = Arc::new(permit.map_err(|_| Error::Task)?);
        let lease = match self.spool(&wanted).await? {
            Some(spool) => self.through_spool(&wanted, spool, &permit).await?,
            None => self.directly(&wanted, &permit).await?,
        };
        wanted.counters.set(LayerState::Complete);
        self.downloads.metrics.layer_fetched();
        Ok(lease)
    }

    async fn directly(&self, wanted: &Wanted, permit: &Permit) -> Result<Lease, Error> {
        wanted.counters.begin(0);
        let (sender, receiver) = mpsc::channel(PARTS);
        let mut unpacking = self.unpack(wanted, Parts::new(receiver), permit);
        let blob = self.session.blob(&wanted.compressed, wanted.size);
        let downloaded = {
            let mut sink = Direct { fetch: self, wanted, sender };
            blob.fetch_whole(&mut sink).await
        };
        let unpacked = unpacking.end().await;
        match downloaded {
            Err(Interrupted::Failed(error)) => Err(error),
            Err(Interrupted::NotWanted | Interrupted::NoRanges) | Ok(()) => unpacked,
        }
    }

    /// The spool of a large layer. Nothing when another task has it for a moment.
    async fn spool(&self, wanted: &Wanted) -> Result<Option<Arc<Spool>>, Error> {
        if wanted.size == 0 || wanted.size < self.records().options.large_layer {
            return Ok(None);
        }
        let spools = self.records().spools.clone();
        let (digest, size) = (wanted.compressed, wanted.size);
        self.records().workers.run(move || spools.take(&digest, size)).await
    }

    /// What an earlier attempt left may be wrong, which only the whole tells: then the layer
    /// is downloaded once more from its beginning.
    async fn through_spool(
        &self,
        wanted: &Wanted,
        spool: Arc<Spool>,
        permit: &Permit,
    ) -> Result<Lease, Error> {
        let is_resumed = spool.resumed() > 0;
        let error = match self.attempt(wanted, spool, permit).await {
            Err(error) if is_resumed && error.kind() == Kind::DataLoss => error,
            result => return result,
        };
        tracing::warn!(layer = %wanted.compressed, %error, "what an earlier attempt left is wrong");
        match self.spool(wanted).await? {
            Some(spool) => self.attempt(wanted, spool, permit).await,
            None => self.directly(wanted, permit).await,
        }
    }

    async fn attempt(
        &self,
        wanted: &Wanted,
        spool: Arc<Spool>,
        permit: &Permit,
    ) -> Result<Lease, Error> {
        wanted.counters.begin(spool.resumed());
        self.downloads.metrics.bytes_resumed.inc_by(spool.resumed());
        let result = self.fill_and_unpack(wanted, &spool, permit).await;
        let may_continue = result.as_ref().is_err_and(Error::may_continue);
        if !may_continue
            && let Err(error) = self.records().workers.run(move || spool.discard()).await
        {
            // The layer is what it is all the same.
            tracing::warn!(layer = %wanted.compressed, %error, "a spool is left");
        }
        result.map_err(|error| no_room(wanted, error))
    }

    async fn fill_and_unpack(
        &self,
        wanted: &Wanted,
        spool: &Arc<Spool>,
        permit: &Permit,
    ) -> Result<Lease, Error> {
        let filling = spool.filling();
        let mut unpacking = self.unpack(wanted, spool.reader(), permit);
        tokio::select! {
            // Whole, or broken in a way that no further byte mends.
            unpacked = unpacking.end() => unpacked,
            filled = self.fill(wanted, spool) => {
                drop(filling);
                let unpacked = unpacking.end().await;
                filled.and(unpacked)
            }
        }
    }

    /// Fetches what is missing, in several ranges at once, or in one where the registry does
    /// not know ranges.
    async fn fill(&self, wanted: &Wanted, spool: &Arc<Spool>) -> Result<(), Error> {
        let parallel = self.records().options.max_parallel_ranges.max(1);
        let limit = (wanted.size / (4 * parallel as u64)).clamp(SHORTEST_RANGE, LONGEST_RANGE);
        let blob = self.session.blob(&wanted.compressed, wanted.size);
        let ranges = std::iter::from_fn(|| spool.claim(limit));
        let fetched = stream::iter(ranges)
            .map(|range| self.fill_range(wanted, spool, &blob, range))
            .buffer_unordered(parallel)
            .try_collect::<()>()
            .await;
        match fetched {
            Err(Interrupted::NoRanges) => {}
            other => return finished(other),
        }
        match spool.claim_rest() {
            Some(rest) => finished(self.fill_range(wanted, spool, &blob, rest).await),
            None => Ok(()),
        }
    }

    async fn fill_range(
        &self,
        wanted: &Wanted,
        spool: &Arc<Spool>,
        blob: &Blob<'_>,
        range: Range<u64>,
    ) -> Result<(), Interrupted> {
        let permit = self.downloads.connections.acquire().await;
        let _permit = permit.map_err(|_| Interrupted::Failed(Error::Task))?;
        let mut writer = Writer::new(self, wanted, spool, range.start);
        blob.fetch(range, &mut writer).await?;
        writer.write().await
    }

    /// Unpacks on a thread of its own. The permit is given back when that thread ends, which
    /// may be later than anybody waits for it.
    fn unpack(
        &self,
        wanted: &Wanted,
        source: impl Read + Send + 'static,
        permit: &Permit,
    ) -> Unpacking {
        let layers = self.records().layers.clone();
        let (windows, stop) = (self.records().windows.clone(), Stop::default());
        let guard = stop.on_drop(windows.clone());
        let worker = self.records().decompressor();
        let bounds = Bounds { windows, stop, always_allowed: ALWAYS_ALLOWED, worker };
        let permit = permit.clone();
        let compressed = wanted.compressed;
        let expected = Expected { compressed: Some(compressed), diff_id: wanted.diff_id };
        let source = Counted { source, counters: wanted.counters.clone() };
        let content = wanted.content.clone();
        let task = self.unpacking.spawn_blocking(move || {
            let _permit = permit;
            let (growing, target) = layers.begin()?;
            let unpacked = match content {
                Content::Archive => unpack_layer(source, target, &expected, &bounds)?,
                Content::File(name) => write_file(source, target, &name, &compressed)?,
            };
            growing.finish(expected.diff_id, unpacked)
        });
        Unpacking { task, _guard: guard }
    }

    fn records(&self) -> &Records {
        &self.downloads.records
    }

    fn count(&self, wanted: &Wanted, part: &Bytes) {
        wanted.counters.fetched(part.len() as u64);
        self.downloads.metrics.bytes_fetched.inc_by(part.len() as u64);
    }
}

/// A place among the downloads of the daemon.
type Permit = Arc<OwnedSemaphorePermit>;

/// A layer that is being unpacked, for as long as somebody waits for it.
struct Unpacking {
    task: JoinHandle<Result<Lease, Error>>,
    _guard: StopOnDrop,
}

impl Unpacking {
    async fn end(&mut self) -> Result<Lease, Error> {
        (&mut self.task).await.map_err(|_| Error::Task)?
    }
}

fn finished(result: Result<(), Interrupted>) -> Result<(), Error> {
    match result {
        Err(Interrupted::Failed(error)) => Err(error),
        // Nobody ends a spool but the one who unpacks, and his answer counts.
        Err(Interrupted::NotWanted | Interrupted::NoRanges) | Ok(()) => Ok(()),
    }
}

/// A spool that finds no room fails as its layer does.
fn no_room(wanted: &Wanted, error: Error) -> Error {
    match error {
        Error::Io { path, source, .. } if Kind::of_io(&source) == Kind::ResourceExhausted => {
            Error::Full { layer: wanted.diff_id, path: path.display().to_string(), source }
        }
        other => other,
    }
}
