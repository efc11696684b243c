//! Commands in containers.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::Ordering,
};

use serde::Serialize;
use tokio::sync::oneshot;

use super::{Error, Monitor, file_of, started};
use crate::monitor::v1::{self, request::Call};

/// The standard streams of a command.
#[derive(Debug, Clone, Copy)]
pub enum ExecStdio<'a> {
    /// Standard input, output and error.
    Streams([BorrowedFd<'a>; 3]),
    /// A terminal of the container's own, with so many rows and columns.
    Terminal(u16, u16),
}

/// A command that runs.
#[derive(Debug)]
pub struct Started {
    /// Brings the exit code, 128 + n after signal n.
    pub exit: oneshot::Receiver<i32>,
    /// The master side of its terminal.
    pub terminal: Option<OwnedFd>,
}

impl Monitor {
    /// A name for a process that [`Monitor::exec`] starts.
    pub fn next_exec(&self) -> u64 {
        self.0.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Starts a process in a container; returns when its program runs. A caller that gives up
    /// before kills it with [`Monitor::kill_exec`].
    pub async fn exec(
        &self,
        id: u64,
        container: &str,
        bundle: &impl Serialize,
        filter: Option<&[u8]>,
        stdio: ExecStdio<'_>,
    ) -> Result<Started, Error> {
        let bundle = file_of(&serde_json::to_vec(bundle)?)?;
        let filter = filter.map(file_of).transpose()?;
        let mut fds = vec![bundle.as_fd()];
        fds.extend(filter.as_ref().map(AsFd::as_fd));
        let mut request = v1::Exec {
            container: container.to_owned(),
            exec: id,
            has_filter: filter.is_some(),
            ..v1::Exec::default()
        };
        match stdio {
            ExecStdio::Streams(streams) => fds.extend(streams),
            ExecStdio::Terminal(rows, columns) => {
                request.terminal = true;
                (request.rows, request.columns) = (rows.into(), columns.into());
            }
        }
        let (sender, exit) = oneshot::channel();
        self.lock().execs.insert(id, sender);
        match self.call(Call::Exec(request), &fds).await.and_then(started) {
            Ok((_, fds)) => Ok(Started { exit, terminal: fds.into_iter().next() }),
            Err(error) => {
                self.lock().execs.remove(&id);
                Err(error)
            }
        }
    }

    /// Kills all that an exec has started, and forgets it.
    pub async fn kill_exec(&self, exec: u64) -> Result<(), Error> {
        self.lock().execs.remove(&exec);
        self.call(Call::KillExec(v1::KillExec { exec }), &[]).await.map(drop)
    }
}
