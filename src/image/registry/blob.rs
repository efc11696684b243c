//! Downloads of layers: a stream of parts that survives cut connections.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Response, StatusCode, header};
use tokio::sync::mpsc;

use super::{Failure, Host, Retry, Session, wait_before_retry};
use crate::image::{Digest, Error};

/// Between a connection that broke and its successor.
const PAUSE: Duration = Duration::from_millis(100);

/// Why a download ended early.
pub(in super::super) enum Interrupted {
    /// The registry failed.
    Failed(Error),
    /// The one who unpacks has ended, and knows why.
    NotWanted,
}

/// How far a download has come; any host can go on from there.
struct Progress {
    offset: u64,
    /// The size that the manifest gives.
    size: u64,
}

enum Step {
    Complete,
    NotWanted,
}

impl Session {
    /// Sends the blob's parts to `sink`, in order and each once. A connection that breaks
    /// is taken up again where it broke, as long as each attempt brings something.
    pub(in super::super) async fn download(
        &self,
        digest: &Digest,
        size: u64,
        sink: mpsc::Sender<Bytes>,
    ) -> Result<(), Interrupted> {
        let hosts = self.able_hosts(false);
        let mut progress = Progress { offset: 0, size };
        let mut attempt = 0;
        let mut index = 0;
        loop {
            let Some(host) = hosts.get(index) else {
                return Err(Interrupted::Failed(self.no_host()));
            };
            let before = progress.offset;
            let failure = match self.step(host, digest, &mut progress, &sink).await {
                Ok(Step::Complete) => return Ok(()),
                Ok(Step::NotWanted) => return Err(Interrupted::NotWanted),
                Err(failure) => failure,
            };
            let is_passing = !matches!(failure.retry, Retry::Never)
                || matches!(failure.error, Error::Stalled { .. });
            if progress.offset > before && is_passing {
                attempt = 0;
                tracing::debug!(host = host.name(), error = %failure.error, "download goes on");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            if index + 1 < hosts.len() {
                tracing::debug!(host = host.name(), error = %failure.error, "mirror passed over");
                index += 1;
                continue;
            }
            attempt += 1;
            wait_before_retry(failure, attempt).await.map_err(Interrupted::Failed)?;
        }
    }

    async fn step(
        &self,
        host: &Host,
        digest: &Digest,
        progress: &mut Progress,
        sink: &mpsc::Sender<Bytes>,
    ) -> Result<Step, Failure> {
        if progress.offset > 0 && progress.offset == progress.size {
            // It broke after the last byte.
            return Ok(Step::Complete);
        }
        let mut response =
            self.get(host, &format!("blobs/{digest}"), None, progress.offset).await?;
        let mut skip = self.skip(host, &response, progress.offset)?;
        while let Some(mut chunk) = self.chunk(host, &mut response).await? {
            let skipped = skip.min(chunk.len() as u64);
            skip -= skipped;
            let chunk = chunk.split_off(skipped as usize);
            if chunk.is_empty() {
                continue;
            }
            progress.offset += chunk.len() as u64;
            if progress.size > 0 && progress.offset > progress.size {
                return Err(
                    self.protocol(host, format!("{digest} is larger than its manifest says"))
                );
            }
            if sink.send(chunk).await.is_err() {
                return Ok(Step::NotWanted);
            }
        }
        if progress.offset < progress.size {
            let failure = self.protocol(host, format!("{digest} ends early"));
            return Err(Failure { retry: Retry::Soon, ..failure });
        }
        Ok(Step::Complete)
    }

    /// How many bytes of the answer are known already: none of a part, all of a whole.
    fn skip(&self, host: &Host, response: &Response, offset: u64) -> Result<u64, Failure> {
        if offset == 0 || response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(offset);
        }
        let range = response.headers().get(header::CONTENT_RANGE).and_then(|v| v.to_str().ok());
        let start = range
            .and_then(|range| range.strip_prefix("bytes "))
            .and_then(|range| range.split('-').next())
            .and_then(|start| start.parse::<u64>().ok());
        if start == Some(offset) {
            Ok(0)
        } else {
            Err(self.protocol(host, "it answers with another part than was asked for"))
        }
    }
}
