//! A pull, step by step: hosts, manifest, configuration, layers, commit.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::task::spawn_blocking;
use tokio_util::task::TaskTracker;

use super::{
    Auth, Digest, Error, ImageId, ImageStore,
    admission::judge,
    artifact,
    auth_file::NodeAuth,
    config::Document as Config,
    fetch::{Content, Wanted},
    hosts,
    images::{Names, Record},
    layers::Lease,
    manifest::{self, CONFIG_LIMIT, Descriptor, Document, Manifest},
    platform::Platform,
    progress::{Pulls, Watched},
    reference::Reference,
    registry::{Session, SharedSession},
    settle,
    store::{Complete, alone},
};

/// Indexes may list indexes, but not without end.
const INDEX_DEPTH: usize = 3;

/// How long a failed pull waits for its other layers to stop, so that nothing is left.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// What the steps of one pull share.
#[derive(Clone)]
pub(super) struct Pull {
    pub(super) store: Arc<ImageStore>,
    pub(super) session: SharedSession,
    /// The layers that are being unpacked.
    pub(super) unpacking: TaskTracker,
}

/// Pulls the image and gives back its id. Every error names the reference.
pub(super) async fn pull(
    store: Arc<ImageStore>,
    reference: Reference,
    auth: Option<Auth>,
    namespace: String,
) -> Result<ImageId, Error> {
    let name = reference.to_string();
    let watched = store.pulls.begin(name.clone());
    let result = steps(store.clone(), reference, auth, namespace, &watched).await;
    if result.as_ref().is_err_and(Error::may_continue) {
        store.collect_later();
    }
    let metrics = &store.metrics;
    if result.is_ok() { &metrics.pulls_succeeded } else { &metrics.pulls_failed }.add(1);
    result.map_err(|error| error.while_pulling(name))
}

async fn steps(
    store: Arc<ImageStore>,
    reference: Reference,
    auth: Option<Auth>,
    namespace: String,
    watched: &Watched,
) -> Result<ImageId, Error> {
    let session = open_session(&store, reference, auth).await?;
    let policy = {
        let store = store.clone();
        blocking(move || store.policy(&namespace)).await?
    };
    let (manifest, manifests) = image_manifest(&session).await?;
    let signatures = judge(policy.as_ref(), &session, &manifests).await?;
    let names = Names::of(&session.reference, &manifests[0]);
    let is_artifact = manifest.is_artifact();
    let Plan { id, config, layers } = if is_artifact {
        artifact_plan(&store, &session, &manifest, &manifests)?
    } else {
        image_plan(&store, &session, &manifest).await?
    };
    watched.has_layers(layers.iter().map(|wanted| wanted.counters.clone()).collect());
    let diff_ids: Vec<Digest> = layers.iter().map(|wanted| wanted.diff_id).collect();
    let size = layers.iter().map(|wanted| wanted.size).sum::<u64>() + config.len() as u64;
    let annotations = manifest.annotations;
    let record = Record {
        size,
        config,
        annotations,
        manifests,
        signatures,
        is_artifact,
        ..Record::default()
    };
    let pull = Pull { store: store.clone(), session, unpacking: TaskTracker::new() };
    let result = async {
        let leases = pull.all_layers(id, layers).await?;
        let store = store.clone();
        blocking(move || store.commit(Complete { id, names, record, leases })).await
    }
    .await;
    if let Err(error) = &result
        && !error.may_continue()
    {
        pull.unpacking.close();
        tokio::time::timeout(STOP_TIMEOUT, pull.unpacking.wait()).await.ok();
        store.layers.forget(&diff_ids);
        let store = store.clone();
        blocking(move || store.collect_garbage()).await?;
    }
    result
}

/// What a pull is to bring.
struct Plan {
    id: ImageId,
    /// The configuration document.
    config: String,
    layers: Vec<Wanted>,
}

async fn image_plan(
    store: &ImageStore,
    session: &Session,
    manifest: &Manifest,
) -> Result<Plan, Error> {
    let (document, config) = configuration(store, session, manifest).await?;
    let layers = pair_up(&session.reference, manifest, &config, &store.pulls)?;
    let config = text(&session.reference, document)?;
    Ok(Plan { id: ImageId(manifest.config.digest), config, layers })
}

fn artifact_plan(
    store: &ImageStore,
    session: &Session,
    manifest: &Manifest,
    manifests: &[Digest],
) -> Result<Plan, Error> {
    let layers = artifact::files(&session.reference, manifest, &store.pulls)?;
    let own = manifests.last().copied().unwrap_or(manifest.config.digest);
    Ok(Plan { id: ImageId(own), config: "{}".to_owned(), layers })
}

async fn open_session(
    store: &Arc<ImageStore>,
    reference: Reference,
    auth: Option<Auth>,
) -> Result<SharedSession, Error> {
    let store = store.clone();
    blocking(move || {
        let rules = store.rules();
        rules.check(&reference)?;
        let insecure = rules.is_insecure(&reference);
        let endpoints = hosts::endpoints(&store.options.certs_dir, &reference.registry, insecure)?;
        let node = NodeAuth::read(&rules.auth_files)?;
        let timeout = store.options.progress_timeout;
        Session::new(reference, endpoints, auth.as_ref(), &node, &store.clients, timeout)
            .map(Arc::new)
    })
    .await
}

/// The manifest for this machine, and the digests of the documents that led to it: first that
/// of the one that the reference named, last its own.
async fn image_manifest(session: &Session) -> Result<(Manifest, Vec<Digest>), Error> {
    let platform = Platform::here();
    let (mut bytes, mut media_type, digest) = session.manifest().await?;
    let mut digests = vec![digest];
    for _ in 0..INDEX_DEPTH {
        let document = Document::parse(&bytes, &media_type)
            .map_err(|reason| unusable(&session.reference, reason))?;
        let manifests = match document {
            Document::Image(manifest) => return Ok((*manifest, digests)),
            Document::Index(manifests) => manifests,
        };
        let chosen =
            manifest::choose(&manifests, &platform).map_err(|offered| Error::Platform {
                reference: session.reference.to_string(),
                wanted: platform.describe(),
                offered,
            })?;
        (bytes, media_type) = session.manifest_at(&chosen.digest).await?;
        digests.push(chosen.digest);
    }
    Err(unusable(&session.reference, "its index lists indexes of indexes"))
}

/// The configuration: of the image that is here already, or from the registry.
async fn configuration(
    store: &ImageStore,
    session: &Session,
    manifest: &Manifest,
) -> Result<(Vec<u8>, Config), Error> {
    let id = ImageId(manifest.config.digest);
    let known = store.lock().images.record(&id).map(|record| record.config.clone().into_bytes());
    let bytes = match known {
        Some(bytes) => bytes,
        None => session.small_blob(&manifest.config.digest, CONFIG_LIMIT).await?,
    };
    let config = Config::parse(&bytes).map_err(|error| {
        unusable(&session.reference, format!("its configuration does not parse: {error}"))
    })?;
    check_platform(&session.reference, &config.platform)?;
    Ok((bytes, config))
}

/// A configuration that says nothing of its platform is taken as it is.
pub(super) fn check_platform(reference: &impl ToString, offered: &Platform) -> Result<(), Error> {
    let here = Platform::here();
    let relaxed = Platform { variant: String::new(), ..offered.clone() };
    if offered.architecture.is_empty() || here.rank(&relaxed).is_some() {
        return Ok(());
    }
    Err(Error::Platform {
        reference: reference.to_string(),
        wanted: here.describe(),
        offered: offered.describe(),
    })
}

fn pair_up(
    reference: &Reference,
    manifest: &Manifest,
    config: &Config,
    pulls: &Pulls,
) -> Result<Vec<Wanted>, Error> {
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        let reason = format!(
            "its manifest has {} layers and its configuration {}; push it anew",
            manifest.layers.len(),
            diff_ids.len()
        );
        return Err(unusable(reference, reason));
    }
    let pair = |(layer, diff_id): (&Descriptor, &Digest)| Wanted {
        compressed: layer.digest,
        size: layer.size,
        diff_id: *diff_id,
        content: Content::Archive,
        counters: pulls.layer((layer.digest, *diff_id), layer.size),
    };
    Ok(manifest.layers.iter().zip(diff_ids).map(pair).collect())
}

impl Pull {
    /// Gets all layers, the largest first so that it is not what all wait for in the end, and
    /// settles them from the lowest to the top.
    async fn all_layers(&self, id: ImageId, layers: Vec<Wanted>) -> Result<Vec<Lease>, Error> {
        if let Some(leases) = known_layers(&self.store, &id) {
            layers.iter().for_each(|wanted| wanted.counters.set_present());
            self.store.metrics.layers_reused.add(layers.len() as u64);
            return Ok(leases);
        }
        let by_diff_id: BTreeMap<Digest, Wanted> =
            layers.iter().map(|wanted| (wanted.diff_id, wanted.clone())).collect();
        let mut distinct: Vec<Wanted> = by_diff_id.into_values().collect();
        distinct.sort_by_key(|wanted| std::cmp::Reverse(wanted.size));
        let parallel = self.store.options.max_parallel_downloads.max(1);
        let kept: Vec<Lease> = stream::iter(distinct)
            .map(|wanted| self.layer(wanted))
            .buffer_unordered(parallel)
            .try_collect()
            .await?;
        let mut settled: Vec<Lease> = Vec::with_capacity(layers.len());
        for wanted in layers {
            let next = match self.settle_next(&settled, wanted.diff_id).await? {
                Some(lease) => lease,
                None => {
                    // What is here was made for other layers below: this stack gets its own.
                    let fresh = self.clone().download(wanted.clone()).await?;
                    let next = self.settle_next(&settled, wanted.diff_id).await?;
                    drop(fresh);
                    next.ok_or(Error::Task)?
                }
            };
            settled.push(next);
        }
        drop(kept);
        Ok(settled)
    }

    async fn settle_next(&self, below: &[Lease], diff_id: Digest) -> Result<Option<Lease>, Error> {
        let numbers: Vec<u64> = below.iter().map(|lease| lease.number).collect();
        let store = self.store.clone();
        blocking(move || store.settle(&numbers, &diff_id)).await
    }
}

/// The layers of an image that is here as a whole.
fn known_layers(store: &ImageStore, id: &ImageId) -> Option<Vec<Lease>> {
    let state = store.lock();
    let record = state.images.record(id)?;
    record.layers.iter().map(|number| store.layers.lease(*number)).collect()
}

impl ImageStore {
    /// A layer of that diff id that fits upon those below, the lowest first.
    pub(super) fn settle(&self, below: &[u64], diff_id: &Digest) -> Result<Option<Lease>, Error> {
        let _alone = alone(&self.settling);
        let candidates = self.layers.candidates(diff_id);
        settle::settle(&self.layers, &candidates, &self.directories(below))
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    spawn_blocking(work).await.map_err(|_| Error::Task)?
}

fn text(reference: &Reference, document: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(document).map_err(|_| unusable(reference, "its configuration is not UTF-8"))
}

fn unusable(reference: &Reference, reason: impl Into<String>) -> Error {
    Error::Manifest { reference: reference.to_string(), reason: reason.into() }
}
