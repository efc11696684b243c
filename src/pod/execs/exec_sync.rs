//! ExecSync.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{io::AsyncReadExt, net::unix::pipe};

use crate::{
    kind::Kind,
    monitor::client::{self, ExecStdio, Monitor},
    pod::{
        Pods,
        container::Container,
        error::{During, Error, Reason},
        stage,
    },
    runtime::bundle::ExecBundle,
    spec::{self, container::raw_environment},
    telemetry::{ExecResult, Operation},
};

/// What is kept of each stream, in bytes; the rest is read and dropped.
pub const MAX_OUTPUT: usize = 16 * 1024 * 1024;

/// The monitor ends a command whose time is over. One that does not, or whose command the
/// kernel does not end, is waited for so much longer.
const MARGIN: Duration = Duration::from_secs(1);

/// What a command wrote and how it ended.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// At most [`MAX_OUTPUT`] bytes.
    pub stdout: Vec<u8>,
    /// At most [`MAX_OUTPUT`] bytes.
    pub stderr: Vec<u8>,
    /// How many bytes it wrote to each, those that were not kept included.
    pub written: [u64; 2],
    /// 128 + n where signal n ended it.
    pub exit_code: i32,
}

impl Pods {
    /// Runs a command in a running container. `timeout` is in seconds, 0 for none.
    ///
    /// # Errors
    /// A container that does not run, a command that cannot be executed, and
    /// `DeadlineExceeded`, after which nothing runs that the command has started.
    pub async fn exec_sync(
        self: &Arc<Self>,
        container: &Container,
        command: &[String],
        timeout: i64,
    ) -> Result<ExecOutput, Error> {
        let operation = self.on_container("ExecSync", container);
        let begin = Instant::now();
        let outcome = self.exec_and_wait(container, command, timeout, &operation).await;
        let result = match &outcome {
            Ok(output) if output.exit_code == 0 => ExecResult::Success,
            Ok(_) => ExecResult::Failure,
            Err(error) if error.kind() == Kind::DeadlineExceeded => ExecResult::Timeout,
            Err(_) => ExecResult::Error,
        };
        self.operations().figures().executed(result, begin.elapsed());
        stage::ended(operation, outcome)
    }

    async fn exec_and_wait(
        self: &Arc<Self>,
        container: &Container,
        command: &[String],
        timeout: i64,
        operation: &Operation,
    ) -> Result<ExecOutput, Error> {
        if command.is_empty() {
            return Err(spec::Error::invalid("cmd", "must not be empty").into());
        }
        if !container.is_running() {
            return Err(container.wrong_state("executing a command", ""));
        }
        let time = u64::try_from(timeout).ok().filter(|&seconds| seconds > 0);
        let time = time.map(|seconds| Duration::from_secs(seconds.min(u64::from(u32::MAX))));
        let limit = time.map_or(Duration::from_secs(u64::from(u32::MAX)), |time| time + MARGIN);
        let deadline = tokio::time::Instant::now() + limit;
        operation.stage("waiting for the pod");
        let sandbox = self.sandbox_of(container)?;
        let monitor = sandbox.ready_monitor("executing a command").await?;
        let filter = self.filter_of(container).await?;
        let flags = filter.as_deref().map_or(0, |filter| filter.flags);
        let bundle = self.exec_bundle(container, command, false, flags).await?;

        let pipes = Path::new("pipe");
        let (mut stdout, stdout_end) = output_pipe().during("create", pipes)?;
        let (mut stderr, stderr_end) = output_pipe().during("create", pipes)?;
        let null = Path::new("/dev/null");
        let stdin = OwnedFd::from(File::open(null).during("open", null)?);
        let program = filter.as_deref().map(|filter| filter.program.as_slice());
        let stdio = ExecStdio::Streams([stdin.as_fd(), stdout_end.as_fd(), stderr_end.as_fd()]);
        operation.stage("starting the command");
        let exec = monitor.next_exec();
        // Whoever stops waiting must not leave a command behind that nobody will ever end.
        let mut guard = KillOnDrop { monitor: Some(monitor.clone()), exec };
        let call = monitor.exec(exec, container.id.as_str(), &bundle, program, stdio, time);
        let started = self.ask(&sandbox, "executing a command", call);
        let too_long = || Reason::Timeout {
            command: command.join(" "),
            container: container.id.to_string(),
            seconds: timeout,
        };
        let exit = match tokio::time::timeout_at(deadline, started).await {
            Ok(Ok(started)) => started.exit,
            Ok(Err(error)) if time.is_some() && error.kind() == Kind::DeadlineExceeded => {
                guard.monitor = None;
                return Err(too_long().into());
            }
            Ok(Err(error)) => {
                guard.monitor = None;
                return Err(error);
            }
            Err(_) => return Err(too_long().into()),
        };
        operation.stage_of("running the command", limit);
        drop((stdout_end, stderr_end));

        let (mut kept, mut kept_errors) = (Kept::default(), Kept::default());
        let ended = tokio::time::timeout_at(deadline, async {
            let streams = async {
                tokio::join!(keep(&mut stdout, &mut kept), keep(&mut stderr, &mut kept_errors));
            };
            tokio::pin!(exit, streams);
            tokio::select! {
                // Both streams have ended; the exit is all that is left to wait for.
                () = &mut streams => exit.await,
                ended = &mut exit => ended,
            }
        })
        .await;
        match ended {
            Ok(Ok(exit)) if exit.timed_out => {
                guard.monitor = None;
                Err(too_long().into())
            }
            Ok(Ok(exit)) => {
                guard.monitor = None;
                // What it wrote before its end is in the pipes now. What a child that it
                // left behind may still write is not waited for.
                drain(&stdout, &mut kept);
                drain(&stderr, &mut kept_errors);
                Ok(ExecOutput {
                    written: [kept.written, kept_errors.written],
                    stdout: kept.bytes,
                    stderr: kept_errors.bytes,
                    exit_code: exit.code,
                })
            }
            Ok(Err(_)) => Err(Reason::Monitor(client::Error::Gone).into()),
            Err(_) => Err(too_long().into()),
        }
    }

    /// The container's own process, with another command.
    pub(in crate::pod) async fn exec_bundle(
        self: &Arc<Self>,
        container: &Container,
        command: &[String],
        terminal: bool,
        seccomp_flags: u32,
    ) -> Result<ExecBundle, Error> {
        let spec = self.spec_of(container).await?;
        self.confirm_profile(&spec).await?;
        let mut process = spec.process().clone().unwrap_or_default();
        process.set_args(Some(command.to_vec()));
        process.set_terminal(Some(terminal));
        let mut environment = process.env().clone().unwrap_or_default();
        if terminal && !environment.iter().any(|variable| variable.starts_with("TERM=")) {
            environment.push("TERM=xterm".to_owned());
            process.set_env(Some(environment));
        }
        let raw_environment = raw_environment(&container.record().config, &spec);
        Ok(ExecBundle { process, seccomp_flags, raw_environment })
    }
}

/// Kills all that an exec has started, unless it is disarmed.
pub(in crate::pod) struct KillOnDrop {
    /// None once it is disarmed.
    pub monitor: Option<Monitor>,
    pub exec: u64,
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let Some(monitor) = self.monitor.take() else { return };
        let exec = self.exec;
        tokio::spawn(async move {
            if let Err(error) = monitor.kill_exec(exec).await {
                tracing::warn!(exec, %error, "cannot kill what an exec has started");
            }
        });
    }
}

fn output_pipe() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    let reader = OwnedFd::from(reader);
    rustix::io::ioctl_fionbio(&reader, true)?;
    Ok((pipe::Receiver::from_owned_fd(reader)?, writer.into()))
}

/// Reads a stream to its end and keeps its beginning.
async fn keep(stream: &mut pipe::Receiver, kept: &mut Kept) {
    let mut chunk = Vec::with_capacity(8192);
    loop {
        chunk.clear();
        match stream.read_buf(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(_) => kept.append(&chunk),
        }
    }
}

/// Takes what is in a pipe now.
fn drain(stream: &pipe::Receiver, kept: &mut Kept) {
    /// More than the largest pipe holds.
    const MOST_CHUNKS: usize = 128;
    let mut chunk = [0; 16 * 1024];
    for _ in 0..MOST_CHUNKS {
        match rustix::io::read(stream.as_fd(), &mut chunk) {
            Ok(length @ 1..) => kept.append(&chunk[..length]),
            _ => return,
        }
    }
}

/// The beginning of a stream.
#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    /// All of it.
    written: u64,
}

impl Kept {
    fn append(&mut self, more: &[u8]) {
        let room = MAX_OUTPUT.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&more[..more.len().min(room)]);
        self.written += more.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::{Kept, MAX_OUTPUT};

    #[test]
    fn only_the_beginning_is_kept() {
        let mut kept = Kept { bytes: vec![b'a'; MAX_OUTPUT - 2], written: MAX_OUTPUT as u64 - 2 };
        kept.append(b"bcd");
        kept.append(b"e");
        assert_eq!(kept.bytes.len(), MAX_OUTPUT);
        assert!(kept.bytes.ends_with(b"bc"));
        assert_eq!(kept.written, MAX_OUTPUT as u64 + 2);
    }
}
