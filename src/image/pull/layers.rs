//! All layers of one image: fetched, and settled upon each other.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::super::{
    Digest, Error, ImageId,
    fetch::{Fetch, Wanted},
    layers::Lease,
    records::Records,
};

impl Fetch {
    /// Gets all layers, the largest first so that it is not what all wait for in the end, and
    /// settles them from the lowest to the top.
    pub(super) async fn all_layers(
        &self,
        id: ImageId,
        layers: Vec<Wanted>,
    ) -> Result<Vec<Lease>, Error> {
        if let Some(leases) = known_layers(&self.downloads.records, &id) {
            layers.iter().for_each(|wanted| wanted.counters.set_present());
            self.downloads.metrics.layers_reused(layers.len());
            return Ok(leases);
        }
        let by_diff_id: BTreeMap<Digest, Wanted> =
            layers.iter().map(|wanted| (wanted.diff_id, wanted.clone())).collect();
        let mut distinct: Vec<Wanted> = by_diff_id.into_values().collect();
        distinct.sort_by_key(|wanted| std::cmp::Reverse(wanted.size));
        let parallel = self.downloads.records.options.max_parallel_downloads.max(1);
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
        let records = self.downloads.records.clone();
        let workers = records.workers.clone();
        workers.run(move || records.settle(&numbers, &diff_id)).await
    }
}

/// The layers of an image that is here as a whole.
fn known_layers(records: &Records, id: &ImageId) -> Option<Vec<Lease>> {
    let state = records.lock();
    let record = state.images.record(id)?;
    record.layers.iter().map(|number| records.layers.lease(*number)).collect()
}
