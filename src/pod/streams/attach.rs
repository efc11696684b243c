//! Attach: a client at the streams of a container.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use rustix::pipe::fcntl_setpipe_size;
use tokio::sync::oneshot;

use crate::pod::{
    Pods,
    container::Container,
    error::{During, Error},
};

/// How much output may wait for a client, in bytes; the most that a pipe holds without further
/// rights.
const BACKLOG: usize = 1 << 20;

/// What a client at a container has.
#[derive(Debug)]
pub struct Attachment {
    /// To be written, where the container has an input.
    pub stdin: Option<OwnedFd>,
    /// What it writes from now on.
    pub stdout: Option<OwnedFd>,
    /// The same of its standard error.
    pub stderr: Option<OwnedFd>,
    /// To be given the size of the client's.
    pub terminal: Option<OwnedFd>,
    /// Whether the container's input is for one client only.
    pub closes_input: bool,
    lost: std::sync::Mutex<oneshot::Receiver<()>>,
}

impl Attachment {
    /// Whether the streams ended because they were not read fast enough.
    pub fn was_cut_off(&self) -> bool {
        let mut lost = self.lost.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        lost.try_recv().is_ok()
    }
}

impl Pods {
    /// Whether a client can attach now.
    ///
    /// # Errors
    /// A container that does not run.
    pub fn check_attach(&self, container: &Container) -> Result<(), Error> {
        match container.is_running() {
            true => Ok(()),
            false => Err(container.wrong_state("attaching to it", "")),
        }
    }

    /// Attaches to the streams of a running container that are wanted.
    ///
    /// # Errors
    /// A container that does not run.
    pub async fn attach(
        self: &Arc<Self>,
        container: &Container,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    ) -> Result<Attachment, Error> {
        self.check_attach(container)?;
        let (tty, has_input, once) = {
            let config = &container.record().config;
            (config.tty, config.stdin, config.stdin_once)
        };
        let sandbox = self.sandbox_of(container)?;
        let monitor = sandbox.ready_monitor("attaching to a container").await?;
        let pipes = Path::new("pipe");
        // A terminal has one output.
        let (stdout, stdout_end) = pipe(stdout).during("create", pipes)?.unzip();
        let (stderr, stderr_end) = pipe(stderr && !tty).during("create", pipes)?.unzip();
        let (id, stdin) = (container.id.as_str(), stdin && has_input);
        let (out, err) =
            (stdout_end.as_ref().map(AsFd::as_fd), stderr_end.as_ref().map(AsFd::as_fd));
        let attach = monitor.attach(id, stdin, out, err);
        let attached = self.ask(&sandbox, "attaching to a container", attach).await?;
        let (input, terminal) = match tty {
            false => (attached.input, None),
            true => {
                let copy = attached.input.as_ref().map(OwnedFd::try_clone).transpose();
                (copy.during("share", Path::new("/dev/console"))?, attached.input)
            }
        };
        Ok(Attachment {
            stdin: input.filter(|_| stdin),
            stdout,
            stderr,
            terminal,
            closes_input: once,
            lost: std::sync::Mutex::new(attached.lost),
        })
    }

    /// Ends what is left of a client at a container: `stdin` tells whether it had the input,
    /// which ends with the first such client where the container was created so.
    pub async fn detach(&self, container: &Container, stdin: bool) {
        let (tty, once) = {
            let config = &container.record().config;
            (config.tty, config.stdin_once)
        };
        if !stdin || tty || !once {
            return;
        }
        let monitor = self.sandbox_of(container).ok().and_then(|sandbox| sandbox.monitor());
        if let Some(monitor) = monitor {
            // A container that has ended has no input.
            let _ = monitor.close_input(container.id.as_str()).await;
        }
    }
}

/// A pipe with room for what a client has not read yet.
fn pipe(wanted: bool) -> io::Result<Option<(OwnedFd, OwnedFd)>> {
    if !wanted {
        return Ok(None);
    }
    let (reader, writer) = io::pipe()?;
    // The limit of a user's pipes may be reached; a smaller one does as well.
    let _ = fcntl_setpipe_size(&writer, BACKLOG);
    Ok(Some((reader.into(), writer.into())))
}
