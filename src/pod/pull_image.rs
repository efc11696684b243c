//! PullImage: the image store does the work; here it is seen how far it has come.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::Pods;
use crate::image::{self, Auth, ImageId, LayerState, PullProgress, Reference};

/// How often it is looked how far a pull has come.
const LOOK: Duration = Duration::from_millis(100);

impl Pods {
    /// Pulls an image for a pod of a namespace, which may be empty.
    ///
    /// # Errors
    /// Those of the image store.
    pub async fn pull_image(
        &self,
        name: &str,
        auth: Option<Auth>,
        namespace: &str,
    ) -> Result<ImageId, image::Error> {
        let operation = self.on_image("PullImage", name);
        let reference = Reference::parse(name).ok();
        let pull = self.images().pull_for(name, auth, namespace);
        tokio::pin!(pull);
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last: Option<PullProgress> = None;
        let outcome = loop {
            tokio::select! {
                outcome = &mut pull => break outcome,
                _ = ticks.tick() => {
                    let now = reference.as_ref().and_then(|name| self.images().pull_progress(name));
                    if now != last {
                        match (stage_of(last.as_ref()), stage_of(now.as_ref())) {
                            (old, new) if old != new => operation.stage(new),
                            _ => operation.moves(),
                        }
                        last = now;
                    }
                }
            }
        };
        if let Err(error) = &outcome {
            operation.failed(error.kind());
        }
        outcome
    }
}

/// What a pull is at.
fn stage_of(progress: Option<&PullProgress>) -> &'static str {
    let Some(progress) = progress else { return "beginning" };
    let any = |state| progress.layers.iter().any(|layer| layer.state == state);
    if progress.layers.is_empty() {
        "asking the registry for the manifest"
    } else if any(LayerState::Fetching) || any(LayerState::Waiting) {
        "downloading layers"
    } else if any(LayerState::Unpacking) {
        "unpacking layers"
    } else {
        "recording the image"
    }
}
