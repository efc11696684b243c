//! The program of the monitor, and its start.

use std::{
    fs,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
};

use tokio::sync::mpsc;

use super::{Error, Event, Monitor};
use crate::{
    monitor::envelope::sealed,
    sys::{descriptors, socket},
};

/// The program of the monitor, in memory that nobody can change: not through `/proc/PID/exe`
/// of a process in a pod, and not by an upgrade of the file. All its processes share it.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    /// Reads the program from a file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let load = || sealed("criquet-monitor", &fs::read(path)?);
        load().map(Self).map_err(|source| Error::Program { path: path.to_owned(), source })
    }

    /// Starts a monitor that listens at `socket`, and connects to it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(
        &self,
        socket: &Path,
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<Monitor, Error> {
        let failed = |operation| move |source| Error::Connection { operation, source };
        let listener = socket::listen_at(socket).map_err(failed("open a socket for"))?;
        let (ours, theirs) = socket::pair().map_err(failed("open a socket for"))?;
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let mut command = Command::new(path);
        command
            .arg0("criquet-monitor")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(listener))
            .stdout(Stdio::from(theirs))
            .stderr(Stdio::inherit());
        let mut child = tokio::process::Command::from(command).spawn().map_err(failed("start"))?;
        let pid = child.id();
        // What it starts are the containers.
        descriptors::give_inherited(pid);
        tokio::spawn(async move {
            // Nothing to tell: the closed connection says that it is gone.
            let _ = child.wait().await;
        });
        Monitor::over(ours, pid, events)
    }
}
