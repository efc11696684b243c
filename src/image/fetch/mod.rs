//! From a layer that an image wants to one that is unpacked: the one that is here, the one
//! that is on its way, or a new one. A large layer goes through a spool, which several
//! connections fill and which survives the daemon; the bytes of a small one go straight from
//! the connection to the unpacker.

mod sinks;

use std::{io::Read, ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::{
    sync::{Semaphore, mpsc},
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
    stream::{Expected, unpack_layer, write_file},
    task::blocking,
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
    permits: Semaphore,
    /// Requests for ranges of large layers.
    connections: Semaphore,
    under_way: Joint<(Digest, Digest), Lease>,
}

impl Downloads {
    pub(super) fn new(records: Arc<Records>) -> Self {
        let parallel = records.options.max_parallel_downloads.max(1);
        let [permits, connections] =
            [PULLS_AT_ONCE, RANGES_AT_ONCE].map(|times| Semaphore::new(parallel * times));
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
                metrics.layers_reused.add(1);
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
        let _permit = self.downloads.permits.acquire().await.map_err(|_| Error::Task)?;
        let lease = match self.spool(&wanted).await? {
            Some(spool) => self.through_spool(&wanted, spool).await?,
            None => self.directly(&wanted).await?,
        };
        wanted.counters.set(LayerState::Complete);
        self.downloads.metrics.layers_fetched.add(1);
        Ok(lease)
    }

    async fn directly(&self, wanted: &Wanted) -> Result<Lease, Error> {
        wanted.counters.begin(0);
        let (sender, receiver) = mpsc::channel(PARTS);
        let unpacking = self.unpack(wanted, Parts::new(receiver));
        let blob = self.session.blob(&wanted.compressed, wanted.size);
        let downloaded = {
            let mut sink = Direct { fetch: self, wanted, sender };
            blob.fetch_whole(&mut sink).await
        };
        let unpacked = unpacking.await.map_err(|_| Error::Task)?;
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
        blocking(move || spools.take(&digest, size)).await
    }

    /// What an earlier attempt left may be wrong, which only the whole tells: then the layer
    /// is downloaded once more from its beginning.
    async fn through_spool(&self, wanted: &Wanted, spool: Arc<Spool>) -> Result<Lease, Error> {
        let is_resumed = spool.resumed() > 0;
        let error = match self.attempt(wanted, spool).await {
            Err(error) if is_resumed && error.kind() == Kind::DataLoss => error,
            result => return result,
        };
        tracing::warn!(layer = %wanted.compressed, %error, "what an earlier attempt left is wrong");
        match self.spool(wanted).await? {
            Some(spool) => self.attempt(wanted, spool).await,
            None => self.directly(wanted).await,
        }
    }

    async fn attempt(&self, wanted: &Wanted, spool: Arc<Spool>) -> Result<Lease, Error> {
        wanted.counters.begin(spool.resumed());
        self.downloads.metrics.bytes_resumed.add(spool.resumed());
        let result = self.fill_and_unpack(wanted, &spool).await;
        let may_continue = result.as_ref().is_err_and(Error::may_continue);
        if !may_continue && let Err(error) = blocking(move || spool.discard()).await {
            // The layer is what it is all the same.
            tracing::warn!(layer = %wanted.compressed, %error, "a spool is left");
        }
        result.map_err(|error| no_room(wanted, error))
    }

    async fn fill_and_unpack(&self, wanted: &Wanted, spool: &Arc<Spool>) -> Result<Lease, Error> {
        let filling = spool.filling();
        let mut unpacking = self.unpack(wanted, spool.reader());
        tokio::select! {
            // Whole, or broken in a way that no further byte mends.
            unpacked = &mut unpacking => unpacked.map_err(|_| Error::Task)?,
            filled = self.fill(wanted, spool) => {
                drop(filling);
                let unpacked = unpacking.await.map_err(|_| Error::Task)?;
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

    /// Unpacks on a thread of its own.
    fn unpack(
        &self,
        wanted: &Wanted,
        source: impl Read + Send + 'static,
    ) -> JoinHandle<Result<Lease, Error>> {
        let layers = self.records().layers.clone();
        let compressed = wanted.compressed;
        let expected = Expected { compressed: Some(compressed), diff_id: wanted.diff_id };
        let source = Counted { source, counters: wanted.counters.clone() };
        let content = wanted.content.clone();
        self.unpacking.spawn_blocking(move || {
            let (growing, target) = layers.begin()?;
            let unpacked = match content {
                Content::Archive => unpack_layer(source, target, &expected)?,
                Content::File(name) => write_file(source, target, &name, &compressed)?,
            };
            growing.finish(expected.diff_id, unpacked)
        })
    }

    fn records(&self) -> &Records {
        &self.downloads.records
    }

    fn count(&self, wanted: &Wanted, part: &Bytes) {
        wanted.counters.fetched(part.len() as u64);
        self.downloads.metrics.bytes_fetched.add(part.len() as u64);
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
