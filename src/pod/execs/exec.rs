//! Exec: a command whose streams a client has.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use tokio::sync::oneshot;

use crate::{
    monitor::client::{ExecStdio, Exit, Started},
    pod::{
        Pods,
        container::Container,
        error::{During, Error},
        execs::exec_sync::KillOnDrop,
        stage,
    },
    spec,
    telemetry::Operation,
};

/// The size of a terminal before its client says one, as terminals have been since the VT100.
const ROWS: u16 = 24;
const COLUMNS: u16 = 80;

/// A command, and the streams that its client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRequest {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether it gets a terminal, which stands for all its streams.
    pub terminal: bool,
    /// Whether the client writes to it.
    pub stdin: bool,
    /// Whether the client reads what it writes.
    pub stdout: bool,
    /// The same for its standard error.
    pub stderr: bool,
}

/// A command that runs. Closing all ends of a terminal hangs it up.
#[derive(Debug)]
pub struct Exec {
    /// To be written.
    pub stdin: Option<OwnedFd>,
    /// To be read; always with a terminal.
    pub stdout: Option<OwnedFd>,
    /// To be read; never with a terminal.
    pub stderr: Option<OwnedFd>,
    /// To be given the size of the client's.
    pub terminal: Option<OwnedFd>,
    /// Brings how it ended; nothing when the monitor is gone.
    pub exit: oneshot::Receiver<Exit>,
}

impl Pods {
    /// Whether a command can be executed now.
    ///
    /// # Errors
    /// A container that does not run, and an empty command.
    pub fn check_exec(&self, container: &Container, command: &[String]) -> Result<(), Error> {
        if command.is_empty() {
            return Err(spec::Error::invalid("cmd", "must not be empty").into());
        }
        if !container.is_running() {
            return Err(container.wrong_state("executing a command", ""));
        }
        Ok(())
    }

    /// Starts a command in a running container; returns when its program runs.
    ///
    /// # Errors
    /// A container that does not run, and a command that cannot be executed.
    pub async fn exec(
        self: &Arc<Self>,
        container: &Container,
        request: &ExecRequest,
    ) -> Result<Exec, Error> {
        self.check_exec(container, &request.command)?;
        let mut ends = Ends::default();
        let null = Path::new("/dev/null");
        let theirs = match request.terminal {
            true => None,
            false => Some(ends.open(request).during("open streams of", null)?),
        };
        let operation = self.on_container("Exec", container);
        let outcome = self.start_exec(container, request, theirs.as_ref(), &operation).await;
        let started = stage::ended(operation, outcome)?;
        if let Some(terminal) = &started.terminal {
            ends.share(terminal, request.stdin).during("share", Path::new("/dev/tty"))?;
        }
        let Ends { stdin, stdout, stderr } = ends;
        Ok(Exec { stdin, stdout, stderr, terminal: started.terminal, exit: started.exit })
    }

    async fn start_exec(
        self: &Arc<Self>,
        container: &Container,
        request: &ExecRequest,
        streams: Option<&[OwnedFd; 3]>,
        operation: &Operation,
    ) -> Result<Started, Error> {
        operation.stage("waiting for the pod");
        let sandbox = self.sandbox_of(container)?;
        let monitor = sandbox.ready_monitor("executing a command").await?;
        let filter = self.filter_of(container).await?;
        let flags = filter.as_deref().map_or(0, |filter| filter.flags);
        let bundle = self.exec_bundle(container, &request.command, request.terminal, flags).await?;
        let program = filter.as_deref().map(|filter| filter.program.as_slice());
        let stdio = match streams {
            Some(streams) => ExecStdio::Streams(streams.each_ref().map(AsFd::as_fd)),
            None => ExecStdio::Terminal(ROWS, COLUMNS),
        };
        operation.stage("starting the command");
        let exec = monitor.next_exec();
        // A client that goes before the command runs must not leave it behind.
        let mut guard = KillOnDrop { monitor: Some(monitor.clone()), exec };
        let id = container.id.as_str();
        let call = monitor.exec(exec, id, &bundle, program, stdio, None);
        let started = self.ask(&sandbox, "executing a command", call).await;
        guard.monitor = None;
        started
    }
}

/// The daemon's ends of a command's streams.
#[derive(Default)]
struct Ends {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Ends {
    /// Makes pipes for the streams that are wanted, and returns the command's ends.
    fn open(&mut self, request: &ExecRequest) -> io::Result<[OwnedFd; 3]> {
        let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        let stdin = match request.stdin {
            true => {
                let (reader, writer) = io::pipe()?;
                self.stdin = Some(writer.into());
                reader.into()
            }
            false => null()?,
        };
        let output = |wanted: bool, ours: &mut Option<OwnedFd>| {
            if !wanted {
                return null();
            }
            let (reader, writer) = io::pipe()?;
            *ours = Some(reader.into());
            Ok(writer.into())
        };
        let stdout = output(request.stdout, &mut self.stdout)?;
        let stderr = output(request.stderr, &mut self.stderr)?;
        Ok([stdin, stdout, stderr])
    }

    /// Takes a terminal for input and output.
    fn share(&mut self, terminal: &OwnedFd, stdin: bool) -> io::Result<()> {
        self.stdin = stdin.then(|| terminal.try_clone()).transpose()?;
        self.stdout = Some(terminal.try_clone()?);
        Ok(())
    }
}
