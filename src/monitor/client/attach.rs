//! Clients at the streams of a container.

use std::os::fd::{BorrowedFd, OwnedFd};

use tokio::sync::oneshot;

use super::{Error, Monitor};
use crate::monitor::v1::{self, request::Call};

/// What somebody attached has, besides the pipes that it gave.
#[derive(Debug)]
pub struct Attached {
    /// The container's standard input, or the master side of its terminal.
    pub input: Option<OwnedFd>,
    /// Brings a word when the pipes were closed because they were not read fast enough.
    pub lost: oneshot::Receiver<()>,
}

impl Monitor {
    /// Copies what a container writes to these pipes, one for each stream that is wanted. The
    /// copying ends when they are closed. `stdin` tells that its input will be written.
    ///
    /// # Errors
    /// A container that does not run.
    pub async fn attach(
        &self,
        container: &str,
        stdin: bool,
        stdout: Option<BorrowedFd<'_>>,
        stderr: Option<BorrowedFd<'_>>,
    ) -> Result<Attached, Error> {
        let attach = self.next_exec();
        let (sender, lost) = oneshot::channel();
        {
            let mut waiting = self.lock();
            // Those that were closed without being cut off have nobody who listens.
            waiting.attached.retain(|_, sender| !sender.is_closed());
            waiting.attached.insert(attach, sender);
        }
        let request = v1::Attach {
            container: container.to_owned(),
            attach,
            stdout: stdout.is_some(),
            stderr: stderr.is_some(),
            stdin,
        };
        let fds: Vec<_> = [stdout, stderr].into_iter().flatten().collect();
        let (_, fds) = self.call(Call::Attach(request), &fds).await?;
        Ok(Attached { input: fds.into_iter().next(), lost })
    }

    /// Ends the standard input of a container.
    ///
    /// # Errors
    /// A container that is not there.
    pub async fn close_input(&self, container: &str) -> Result<(), Error> {
        let container = container.to_owned();
        self.call(Call::CloseInput(v1::CloseInput { container }), &[]).await.map(drop)
    }
}
