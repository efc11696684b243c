//! The face of the module: all that others do with images.

mod contents;

use std::{io::Write, path::Path, sync::Arc};

use prometheus_client::{encoding::prometheus_text::encode, registry::Registry};

use super::{
    Auth, Error, FsUsage, Image, ImageId, Imported, Options, Origin, Reference, Rules,
    admission::Admission, export, import, metrics::Gauges, progress::PullProgress, pull::Puller,
    records::Records, task::Workers, verify::Verifier,
};
use crate::store::Database;

/// All images of this machine.
pub struct ImageStore {
    pub(super) records: Arc<Records>,
    admission: Arc<Admission>,
    puller: Arc<Puller>,
    verifier: Verifier,
    long_work: Workers,
}

impl ImageStore {
    /// Opens the store beneath `options.root`. What an interrupted pull left behind goes with
    /// [`ImageStore::collect_garbage`], except whole layers, which the next pull may take up
    /// within some minutes.
    pub fn open(options: Options, database: Arc<Database>) -> Result<Self, Error> {
        // The one provider of cryptography; a second start within a process changes nothing.
        rustls::crypto::ring::default_provider().install_default().ok();
        let records = Arc::new(Records::open(options, database)?);
        let verifier = Verifier::begin(records.clone())?;
        let admission = Arc::new(Admission { records: records.clone() });
        let puller = Arc::new(Puller::new(records.clone(), admission.clone()));
        Ok(Self { records, admission, puller, verifier, long_work: Workers::for_long_work() })
    }

    /// Does what blocks on one of the few threads that the store has for it.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn aside<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = Arc::clone(self);
        self.records.workers.run(move || work(&store)).await
    }

    /// The same for what takes minutes: archives, and verification.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn long_aside<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = Arc::clone(self);
        self.long_work.run(move || work(&store)).await
    }

    /// Replaces the rules; pulls that are under way go on by the old ones.
    pub fn set_rules(&self, rules: Rules) {
        self.records.rules.set(rules);
    }

    /// Pulls an image. A pull of the same reference with the same credentials that is under
    /// way is joined; when nobody waits for a pull any longer, it is cancelled. The whole id of
    /// an image is as good as its name, as long as the image is here.
    pub async fn pull(&self, reference: &str, auth: Option<Auth>) -> Result<ImageId, Error> {
        self.pull_for(reference, auth, "").await
    }

    /// The same for a pod of a namespace, whose signature policy decides.
    pub async fn pull_for(
        &self,
        reference: &str,
        auth: Option<Auth>,
        namespace: &str,
    ) -> Result<ImageId, Error> {
        if let Some(id) = self.records.lock().images.with_id(reference) {
            return Ok(id);
        }
        let reference = Reference::parse(reference)?;
        self.puller.pull(reference, auth, namespace.to_owned()).await
    }

    /// The pulls that are under way, in the order of their beginnings.
    pub fn pulls(&self) -> Vec<PullProgress> {
        self.puller.under_way.list()
    }

    /// The pull of a reference that is under way.
    pub fn pull_progress(&self, reference: &Reference) -> Option<PullProgress> {
        self.puller.under_way.find(&reference.to_string())
    }

    /// Shows figures since the store was opened, and what there is now, in a registry of
    /// Prometheus.
    pub fn register(&self, registry: &mut Registry) {
        let usage = self.fs_usage();
        let gauges = Gauges {
            pulls: self.pulls().len(),
            images: self.records.lock().images.count(),
            bytes: usage.used_bytes,
            inodes: usage.inodes_used,
        };
        self.puller.metrics().register(registry, &gauges);
    }

    /// The same in the text format of Prometheus.
    pub fn metrics(&self) -> String {
        let mut registry = Registry::default();
        self.register(&mut registry);
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }

    /// Imports the images of a tar archive, as `docker save` and OCI tools write them; gzip
    /// and zstd around it are fine. Blocks.
    pub fn import(&self, archive: &Path) -> Result<Vec<Image>, Error> {
        Ok(self.import_from(&Origin::Any(archive.to_owned()))?.images)
    }

    /// Imports all images of what a node has: an archive, the directory of an OCI layout, or a
    /// containerd that does not run. Blocks.
    ///
    /// # Errors
    /// What is wrong with the whole, or with an image of an archive; images of a containerd
    /// that cannot be used are passed over.
    pub fn import_from(&self, origin: &Origin) -> Result<Imported, Error> {
        import::import(&self.records, origin)
    }

    /// Writes images, each with all its tags, as one tar archive that [`ImageStore::import`],
    /// Docker and OCI tools read. Blocks.
    ///
    /// # Errors
    /// An image that is not here; a layer whose archive cannot be made again as it was. What
    /// has been written by then is of no use.
    pub fn export(&self, names: &[String], sink: &mut dyn Write) -> Result<(), Error> {
        export::export(&self.records, names, sink)
    }

    /// Whether containers may be made from the image under the name by which the user knows
    /// it, an id included. Blocks.
    ///
    /// # Errors
    /// [`Error::Signature`] where the policy does not let it in, and a policy that cannot be
    /// used.
    pub fn admit(&self, id: &ImageId, name: &str, namespace: &str) -> Result<(), Error> {
        self.admission.admit(id, name, namespace)
    }

    /// Reads all layers and compares their content with their digests. Images that have a
    /// broken one are removed, and named in the answer; what containers use of them stays.
    /// Takes as long as reading all images from the disk. Blocks.
    ///
    /// # Errors
    /// A layer that cannot be read, and the database. All layers are tried, and the first
    /// failure is told.
    pub fn verify(&self) -> Result<Vec<Image>, Error> {
        self.verifier.verify()
    }

    /// Whether the machine went down without an orderly end, and [`ImageStore::verify`] has not
    /// come to its end since.
    pub fn is_suspicious(&self) -> bool {
        self.verifier.is_suspicious()
    }

    /// Notes that the daemon ends orderly, after which no boot is suspicious. Blocks.
    ///
    /// # Errors
    /// The database.
    pub fn close(&self) -> Result<(), Error> {
        self.verifier.close()
    }

    /// The size of all layers, as it was recorded when they were unpacked, and of what is
    /// here of large layers on their way.
    pub fn fs_usage(&self) -> FsUsage {
        self.records.fs_usage()
    }
}

impl std::fmt::Debug for ImageStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let options = &self.records.options;
        f.debug_struct("ImageStore").field("options", options).finish_non_exhaustive()
    }
}
