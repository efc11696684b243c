//! Downloads of layers: streams of parts that survive cut connections.

use std::{
    future::Future,
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use reqwest::{Response, StatusCode, header};

use super::{Failure, Host, Retries, Retry, Session, Span, pace::Pace};
use crate::image::{Digest, Error};

/// Between a connection that broke and its successor.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection that brought less was of no use, and counts as a failed attempt.
const WORTH: u64 = 64 << 10;

/// Why a download ended early.
pub(in super::super) enum Interrupted {
    /// The registry failed, or the disk.
    Failed(Error),
    /// The one who unpacks has ended, and knows why.
    NotWanted,
    /// The registry only sends whole blobs.
    NoRanges,
}

/// Takes the parts of a blob, in order and each once.
pub(in super::super) trait Sink: Send {
    /// Takes the next part.
    fn accept(&mut self, part: Bytes) -> impl Future<Output = Result<(), Interrupted>> + Send;
}

/// A blob that may be fetched in several ranges at once.
pub(in super::super) struct Blob<'a> {
    session: &'a Session,
    digest: &'a Digest,
    /// The size that the manifest gives, or 0.
    size: u64,
    hosts: Vec<&'a Host>,
    /// Hosts before this one have failed.
    first_host: AtomicUsize,
}

/// How far a download has come; any host can go on from there.
struct Progress {
    offset: u64,
    end: u64,
    pace: Pace,
}

impl Session {
    pub(in super::super) fn blob<'a>(&'a self, digest: &'a Digest, size: u64) -> Blob<'a> {
        let hosts = self.able_hosts(false);
        Blob { session: self, digest, size, hosts, first_host: AtomicUsize::new(0) }
    }
}

impl Blob<'_> {
    /// Sends the whole blob to `sink`.
    pub(in super::super) async fn fetch_whole(
        &self,
        sink: &mut impl Sink,
    ) -> Result<(), Interrupted> {
        self.fetch(0..self.size, sink).await
    }

    /// Sends a range of the blob to `sink`. A connection that breaks is taken up again where
    /// it broke, as long as each attempt brings something.
    pub(in super::super) async fn fetch(
        &self,
        range: Range<u64>,
        sink: &mut impl Sink,
    ) -> Result<(), Interrupted> {
        let pace = Pace::new(self.session.limits);
        let mut progress = Progress { offset: range.start, end: range.end, pace };
        let mut retries = Retries::default();
        loop {
            let index = self.first_host.load(Ordering::Relaxed);
            let Some(host) = self.hosts.get(index) else {
                return Err(Interrupted::Failed(self.session.no_host()));
            };
            let before = progress.offset;
            let failure = match self.step(host, &mut progress, sink).await? {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let is_passing = !matches!(failure.retry, Retry::Never);
            if progress.offset >= before + WORTH && is_passing {
                retries.begin_again();
                tracing::debug!(host = host.name(), error = %failure.error, "download goes on");
                tokio::time::sleep(PAUSE).await;
            } else if index + 1 < self.hosts.len() {
                tracing::debug!(host = host.name(), error = %failure.error, "mirror passed over");
                self.first_host.fetch_max(index + 1, Ordering::Relaxed);
                retries.passed_over(failure);
            } else {
                retries.wait(failure).await.map_err(Interrupted::Failed)?;
            }
        }
    }

    /// One request. What ends the download whatever host is asked is the outer error.
    async fn step(
        &self,
        host: &Host,
        progress: &mut Progress,
        sink: &mut impl Sink,
    ) -> Result<Result<(), Failure>, Interrupted> {
        if progress.offset > 0 && progress.offset == progress.end {
            // It broke after the last byte.
            return Ok(Ok(()));
        }
        let part_only = progress.end < self.size;
        let span = Span { start: progress.offset, end: part_only.then_some(progress.end) };
        let path = format!("blobs/{}", self.digest);
        let mut response = match self.session.get(host, &path, None, span).await {
            Ok(response) => response,
            Err(failure) => return Ok(Err(failure)),
        };
        if part_only && response.status() != StatusCode::PARTIAL_CONTENT {
            return Err(Interrupted::NoRanges);
        }
        match self.skip(host, &response, span) {
            Ok(skip) => self.body(host, &mut response, skip, progress, sink).await,
            Err(failure) => Ok(Err(failure)),
        }
    }

    async fn body(
        &self,
        host: &Host,
        response: &mut Response,
        mut skip: u64,
        progress: &mut Progress,
        sink: &mut impl Sink,
    ) -> Result<Result<(), Failure>, Interrupted> {
        loop {
            let begun = Instant::now();
            let next = self.session.chunk(host, response).await;
            let length = next.as_ref().map_or(0, |part| part.as_ref().map_or(0, |p| p.len()));
            if let Err(found) = progress.pace.count(begun.elapsed(), length as u64) {
                return Ok(Err(self.session.too_slow(host, found)));
            }
            let mut part = match next {
                Ok(Some(part)) => part,
                Ok(None) => break,
                // It has sent enough until now: perhaps another connection does better.
                Err(failure) if matches!(*failure.error, Error::Stalled { .. }) => {
                    return Ok(Err(Failure { retry: Retry::Soon, ..failure }));
                }
                Err(failure) => return Ok(Err(failure)),
            };
            let skipped = skip.min(part.len() as u64);
            skip -= skipped;
            let part = part.split_off(skipped as usize);
            if part.is_empty() {
                continue;
            }
            progress.offset += part.len() as u64;
            if self.size > 0 && progress.offset > progress.end {
                let reason = format!("{} is larger than its manifest says", self.digest);
                return Ok(Err(self.session.protocol(host, reason)));
            }
            sink.accept(part).await?;
        }
        if progress.offset < progress.end {
            let failure = self.session.protocol(host, format!("{} ends early", self.digest));
            return Ok(Err(Failure { retry: Retry::Soon, ..failure }));
        }
        Ok(Ok(()))
    }

    /// How many bytes of the answer are known already: none of a part, all of a whole.
    fn skip(&self, host: &Host, response: &Response, span: Span) -> Result<u64, Failure> {
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(span.start);
        }
        let range = response.headers().get(header::CONTENT_RANGE).and_then(|v| v.to_str().ok());
        let start = range
            .and_then(|range| range.strip_prefix("bytes "))
            .and_then(|range| range.split('-').next())
            .and_then(|start| start.parse::<u64>().ok());
        if start == Some(span.start) {
            Ok(0)
        } else {
            Err(self.session.protocol(host, "it answers with another part than was asked for"))
        }
    }
}
