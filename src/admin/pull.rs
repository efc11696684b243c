//! Pulls that tell how far they have come.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::info;

use super::v1::{
    self, LayerState as State, PullImageRequest, PullImageResponse, PulledLayer,
    pull_image_response::Event,
};
use crate::{
    image::{Auth, LayerProgress, LayerState, PullProgress, Reference},
    pod::Pods,
};

/// How often progress is told.
const INTERVAL: Duration = Duration::from_millis(100);

pub(super) type Stream = ReceiverStream<Result<PullImageResponse, Status>>;

/// Starts or joins a pull. It ends with the stream, unless others wait for it.
pub(super) fn pull(pods: Arc<Pods>, request: PullImageRequest) -> Result<Stream, Status> {
    if request.image.is_empty() {
        return Err(crate::spec::Error::invalid("image", "must name an image").into());
    }
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(tell(pods, request, sender));
    Ok(ReceiverStream::new(receiver))
}

async fn tell(
    pods: Arc<Pods>,
    request: PullImageRequest,
    sender: mpsc::Sender<Result<PullImageResponse, Status>>,
) {
    let reference = Reference::parse(&request.image).ok();
    let pull = pods.pull_image(&request.image, auth_of(&request), "");
    tokio::pin!(pull);
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let result = loop {
        tokio::select! {
            result = &mut pull => break result,
            () = sender.closed() => return,
            _ = ticks.tick() => {
                let progress = reference.as_ref().and_then(|name| pods.images().pull_progress(name));
                if let Some(progress) = progress {
                    // A client that reads slowly gets fewer of them.
                    sender.try_send(Ok(event(Event::Progress(progress_out(progress))))).ok();
                }
            }
        }
    };
    if let Ok(id) = &result {
        info!(image = request.image, %id, "image is pulled");
    }
    let last = result.map(|id| event(Event::Id(id.to_string()))).map_err(Status::from);
    // Nobody is there to hear it where this fails.
    sender.send(last).await.ok();
}

fn auth_of(request: &PullImageRequest) -> Option<Auth> {
    let (username, password) = (request.username.clone(), request.password.clone());
    let is_given = !username.is_empty() || !password.is_empty();
    is_given.then(|| Auth { username, password, ..Auth::default() })
}

fn event(event: Event) -> PullImageResponse {
    PullImageResponse { event: Some(event) }
}

pub(super) fn progress_out(pull: PullProgress) -> v1::Pull {
    v1::Pull { image: pull.reference, layers: pull.layers.iter().map(layer_out).collect() }
}

fn layer_out(layer: &LayerProgress) -> PulledLayer {
    let state = match layer.state {
        LayerState::Waiting => State::Waiting,
        LayerState::Fetching => State::Fetching,
        LayerState::Unpacking => State::Unpacking,
        LayerState::Complete => State::Complete,
        LayerState::Present => State::Present,
    };
    PulledLayer {
        digest: layer.digest.to_string(),
        state: state.into(),
        size: layer.size,
        fetched: layer.fetched,
        unpacked: layer.unpacked,
    }
}
