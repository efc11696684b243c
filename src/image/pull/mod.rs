//! A pull, step by step: hosts, manifest, configuration, layers, commit.

mod layers;
mod plan;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::task::TaskTracker;

use super::{
    Auth, Digest, Error, ImageId, Reference,
    admission::{Admission, judge},
    auth_file::NodeAuth,
    fetch::{Downloads, Fetch},
    hosts,
    images::{Names, Record},
    join::Joint,
    metrics::Metrics,
    progress::{Pulls, Watched},
    records::{Complete, Records},
    registry::{Clients, Limits, Session, SharedSession},
};
use crate::crash;
use plan::Plan;

/// How long a failed pull waits for its other layers to stop, so that nothing is left.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Pulls images, and each only once however many ask for it.
pub(super) struct Puller {
    records: Arc<Records>,
    admission: Arc<Admission>,
    downloads: Arc<Downloads>,
    clients: Clients,
    pub(super) under_way: Arc<Pulls>,
    joint: Joint<(String, Option<Auth>, String), ImageId>,
}

impl Puller {
    pub(super) fn new(records: Arc<Records>, admission: Arc<Admission>) -> Self {
        Self {
            downloads: Arc::new(Downloads::new(records.clone())),
            records,
            admission,
            clients: Clients::default(),
            under_way: Arc::default(),
            joint: Joint::default(),
        }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.downloads.metrics
    }

    /// Joins the pull of the same reference by the same user and namespace, or starts it.
    pub(super) async fn pull(
        self: &Arc<Self>,
        reference: Reference,
        auth: Option<Auth>,
        namespace: String,
    ) -> Result<ImageId, Error> {
        let key = (reference.to_string(), auth.clone(), namespace.clone());
        let start = || self.clone().run(reference, auth, namespace);
        self.joint.run(key, start).await.1.map_err(Error::Joined)
    }

    /// Pulls the image and gives back its id. Every error names the reference.
    async fn run(
        self: Arc<Self>,
        reference: Reference,
        auth: Option<Auth>,
        namespace: String,
    ) -> Result<ImageId, Error> {
        let (begin, name) = (Instant::now(), reference.to_string());
        let watched = self.under_way.begin(name.clone());
        let result = self.steps(reference, auth, namespace, &watched).await;
        if result.as_ref().is_err_and(Error::may_continue) {
            self.records.collect_later();
        }
        self.metrics().pulled(result.is_ok(), begin.elapsed());
        result.map_err(|error| error.while_pulling(name))
    }

    async fn steps(
        &self,
        reference: Reference,
        auth: Option<Auth>,
        namespace: String,
        watched: &Watched,
    ) -> Result<ImageId, Error> {
        let session = self.session(reference, auth).await?;
        let policy = {
            let admission = self.admission.clone();
            self.records.workers.run(move || admission.policy(&namespace)).await?
        };
        let (manifest, manifests) = plan::image_manifest(&self.records, &session).await?;
        let signatures = judge(policy, &session, &manifests, &self.records.workers).await?;
        let names = Names::of(&session.reference, &manifests[0]);
        let is_artifact = manifest.is_artifact();
        let Plan { id, config, layers } = if is_artifact {
            plan::of_artifact(&session, &manifest, &manifests, &self.under_way)?
        } else {
            plan::of_image(&self.records, &session, &manifest, &self.under_way).await?
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
        let fetch =
            Fetch { downloads: self.downloads.clone(), session, unpacking: TaskTracker::new() };
        let result = async {
            crash::point("pull: manifest is known");
            let leases = fetch.all_layers(id, layers).await?;
            crash::point("pull: layers are there");
            let records = self.records.clone();
            self.records
                .workers
                .run(move || records.commit(Complete { id, names, record, leases }))
                .await
        }
        .await;
        if let Err(error) = &result
            && !error.may_continue()
        {
            self.forget(&fetch, &diff_ids).await?;
        }
        result
    }

    /// Nothing is left of a pull for which another attempt is of no use.
    async fn forget(&self, fetch: &Fetch, diff_ids: &[Digest]) -> Result<(), Error> {
        fetch.unpacking.close();
        tokio::time::timeout(STOP_TIMEOUT, fetch.unpacking.wait()).await.ok();
        self.records.layers.forget(diff_ids);
        let records = self.records.clone();
        self.records.workers.run(move || records.collect_garbage()).await
    }

    async fn session(
        &self,
        reference: Reference,
        auth: Option<Auth>,
    ) -> Result<SharedSession, Error> {
        let (records, clients) = (self.records.clone(), self.clients.clone());
        self.records
            .workers
            .run(move || {
                let rules = records.rules.get();
                rules.check(&reference)?;
                let insecure = rules.is_insecure(&reference);
                let options = &records.options;
                let endpoints =
                    hosts::endpoints(&options.certs_dir, &reference.registry, insecure)?;
                let node = NodeAuth::read(&rules.auth_files)?;
                let limits = Limits { window: options.progress_timeout, rate: options.min_rate };
                Session::new(reference, endpoints, auth.as_ref(), &node, &clients, limits)
                    .map(Arc::new)
            })
            .await
    }
}
