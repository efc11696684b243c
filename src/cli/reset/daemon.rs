//! A daemon that only this command knows.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::Error;
use crate::{
    cli::{config::Config, image::Client},
    cri::v1::VersionRequest,
};

/// How long a daemon may take until it answers, or until it has ended.
const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(20);
/// How much of its log is shown.
const SHOWN: u64 = 2 << 10;

pub(super) struct Daemon {
    process: Child,
    log: File,
}

impl Daemon {
    /// Starts a daemon on a socket of its own, by which `config` knows it from then on.
    pub(super) fn start(config: &mut Config, file: Option<&Path>) -> Result<Self, Error> {
        let failed = |operation| move |source| Error::Daemon { operation, source };
        let socket = config.state.join("reset.sock");
        fs::create_dir_all(&config.state).map_err(failed("make the directory of"))?;
        config.listen = format!("unix://{}", socket.display());
        let log = unnamed_file(&config.state).map_err(failed("keep the log of"))?;
        let program = std::env::current_exe().map_err(failed("find the program of"))?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--root").arg(&config.root).arg("--state").arg(&config.state);
        command.arg("--listen").arg(&config.listen);
        if let Some(file) = file {
            command.arg("--config").arg(file);
        }
        // Its end is not the end of the service by whose unit this may run.
        command.env_remove("NOTIFY_SOCKET");
        let output = log.try_clone().map_err(failed("keep the log of"))?;
        let error = log.try_clone().map_err(failed("keep the log of"))?;
        command.stdin(Stdio::null()).stdout(output).stderr(error);
        let process = command.spawn().map_err(failed("start"))?;
        Ok(Self { process, log })
    }

    /// Waits until it answers.
    pub(super) fn wait(&self, client: &Client) -> Result<(), Error> {
        let end = Instant::now() + PATIENCE;
        while client.ask(client.pods().version(VersionRequest::default())).is_err() {
            if let Some(status) = self.status() {
                return Err(Error::Ended { status, said: self.said() });
            }
            if Instant::now() > end {
                return Err(Error::Silent { seconds: PATIENCE.as_secs(), said: self.said() });
            }
            std::thread::sleep(STEP);
        }
        Ok(())
    }

    /// How it has ended, without taking that from whoever waits for it.
    fn status(&self) -> Option<String> {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let id = WaitId::Pid(Pid::from_child(&self.process));
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(id, options).ok().flatten()?;
        Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no status".to_owned(),
        })
    }

    /// The end of what it has logged.
    fn said(&self) -> String {
        let read = || {
            let mut log = &self.log;
            let length = log.seek(SeekFrom::End(0))?;
            log.seek(SeekFrom::Start(length.saturating_sub(SHOWN)))?;
            let mut bytes = Vec::new();
            log.take(SHOWN).read_to_end(&mut bytes)?;
            Ok::<_, io::Error>(String::from_utf8_lossy(&bytes).trim_end().to_owned())
        };
        read().unwrap_or_default()
    }

    /// Lets it end, as a service manager does.
    pub(super) fn stop(mut self) -> Result<(), Error> {
        let failed = |source: io::Error| Error::Daemon { operation: "end", source };
        // One that has ended by itself needs no signal.
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let end = Instant::now() + PATIENCE;
        while self.process.try_wait().map_err(failed)?.is_none() {
            if Instant::now() > end {
                self.process.kill().map_err(failed)?;
            }
            std::thread::sleep(STEP);
        }
        Ok(())
    }
}

/// A file that goes with its last descriptor.
fn unnamed_file(directory: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)?.into())
}
