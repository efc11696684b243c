//! Commands in containers.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::Ordering,
    time::Duration,
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

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// 128 + n after signal n.
    pub code: i32,
    /// The monitor has killed it and all that it has started, because its time was over.
    pub timed_out: bool,
}

/// A command that runs.
#[derive(Debug)]
pub struct Started {
    /// Brings how it ended.
    pub exit: oneshot::Receiver<Exit>,
    /// The master side of its terminal.
    pub terminal: Option<OwnedFd>,
}

impl Monitor {
    /// A name for a process that [`Monitor::exec`] starts.
    pub fn next_exec(&self) -> u64 {
        self.connection.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Starts a process in a container; returns when its program runs. A caller that gives up
    /// before kills it with [`Monitor::kill_exec`]. After `time` the monitor kills all that it
    /// has started, whatever becomes of this daemon.
    ///
    /// # Errors
    /// A container that does not run; `DeadlineExceeded` for one that was not at its program
    /// in time.
    pub async fn exec(
        &self,
        id: u64,
        container: &str,
        bundle: &impl Serialize,
        filter: Option<&[u8]>,
        stdio: ExecStdio<'_>,
        time: Option<Duration>,
    ) -> Result<Started, Error> {
        let bundle = file_of(&serde_json::to_vec(bundle)?)?;
        let filter = filter.map(file_of).transpose()?;
        let mut fds = vec![bundle.as_fd()];
        fds.extend(filter.as_ref().map(AsFd::as_fd));
        let mut request = v1::Exec {
            container: container.to_owned(),
            exec: id,
            has_filter: filter.is_some(),
            // Zero is no end; what is shorter than a millisecond is one.
            timeout: time.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(0).max(1)),
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
        let terminal = request.terminal;
        let kill = Call::KillExec(v1::KillExec { exec: id });
        let answered = self.call_or_take_back(Call::Exec(request), &fds, kill).await;
        match answered.and_then(started) {
            Ok((_, fds)) if terminal && fds.is_empty() => {
                self.kill_exec(id).await?;
                // This process has no descriptor left for it.
                let source = rustix::io::Errno::MFILE.into();
                Err(Error::Connection { operation: "take a terminal from", source })
            }
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
