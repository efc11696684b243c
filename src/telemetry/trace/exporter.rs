//! An exporter that a collector may leave alone: while that does not answer, batches are dropped
//! and it is asked again after a pause that grows. That is told once.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use tracing::{info, warn};

/// The pauses after a failure: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// An exporter with patience.
#[derive(Debug)]
pub(super) struct Patient<E> {
    inner: E,
    endpoint: String,
    // Held for one look or one change.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Until when nothing is sent, and the pause that led there.
    pause: Option<(Instant, Duration)>,
    dropped: usize,
}

impl<E> Patient<E> {
    pub(super) fn new(inner: E, endpoint: String) -> Self {
        Self { inner, endpoint, state: Mutex::default() }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether it is the time for nothing.
    fn pauses(&self, spans: usize) -> bool {
        self.with(|state| {
            let pauses = state.pause.is_some_and(|(end, _)| Instant::now() < end);
            state.dropped += if pauses { spans } else { 0 };
            pauses
        })
    }

    fn is_sent(&self) {
        let (was_gone, dropped) =
            self.with(|state| (state.pause.take().is_some(), std::mem::take(&mut state.dropped)));
        if was_gone {
            info!(endpoint = self.endpoint, dropped, "the collector of traces answers again");
        }
    }

    fn has_failed(&self, spans: usize, error: &impl std::fmt::Display) {
        let is_news = self.with(|state| {
            let last = state.pause.map(|(_, pause)| pause);
            let pause = last.map_or(PAUSES[0], |pause| (pause * 2).min(PAUSES[1]));
            state.pause = Some((Instant::now() + pause, pause));
            state.dropped += spans;
            last.is_none()
        });
        if is_news {
            warn!(
                endpoint = self.endpoint,
                %error,
                "the collector of traces takes no spans; they are dropped until it does"
            );
        }
    }
}

impl<E: SpanExporter> SpanExporter for Patient<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        if self.pauses(spans) {
            return Ok(());
        }
        match self.inner.export(batch).await {
            Ok(()) => self.is_sent(),
            // Told here; the SDK has nothing to add.
            Err(error) => self.has_failed(spans, &error),
        }
        Ok(())
    }

    fn shutdown_with_timeout(&self, limit: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(limit)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
