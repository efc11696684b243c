//! The daemon as a child process.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{net::UnixStream, process::Child, process::Command};
use tonic::transport::{Channel, Endpoint};

use crate::{Args, traces::cgroups};

/// A daemon that runs.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    /// Its process id.
    pub pid: u32,
}

impl Daemon {
    /// Starts the daemon, in a cgroup of its own, and waits until it serves.
    pub async fn start(args: &Args) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(args.work.join("daemon.log"))?;
        let mut child = Command::new(&args.criquet)
            .args(["serve", "--config"])
            .arg(args.work.join("criquet.toml"))
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", args.criquet.display()))?;
        let pid = child.id().context("the daemon ended at once")?;
        fs::write(args.work.join("daemon.pid"), pid.to_string())?;
        // Whatever the daemon starts stays there, or goes to the pods' cgroup.
        for directory in cgroups(&own_cgroup(args)) {
            fs::write(directory.join("cgroup.procs"), pid.to_string())?;
        }
        let socket = socket(args);
        for _ in 0..500 {
            if UnixStream::connect(&socket).await.is_ok() {
                return Ok(Self { child, pid });
            }
            if let Some(status) = child.try_wait()? {
                bail!("the daemon ended with {status}; see {}/daemon.log", args.work.display());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        bail!("the daemon does not serve; see {}/daemon.log", args.work.display())
    }

    /// SIGKILL.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// SIGTERM, and the wait for its end.
    pub async fn terminate(mut self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_raw(self.pid.cast_signed()).context("no pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = tokio::time::timeout(Duration::from_secs(20), self.child.wait())
            .await
            .context("the daemon does not end")??;
        match status.success() {
            true => Ok(()),
            false => bail!("the daemon ended with {status}"),
        }
    }
}

/// A connection to the daemon.
pub async fn connect(args: &Args) -> anyhow::Result<Channel> {
    let endpoint = format!("unix://{}", socket(args).display());
    Ok(Endpoint::try_from(endpoint)?.connect().await?)
}

/// The cgroup of the daemon, made by the script.
pub fn own_cgroup(args: &Args) -> PathBuf {
    Path::new(&format!("{}-daemon", args.name)).to_owned()
}

fn socket(args: &Args) -> PathBuf {
    args.work.join("criquet.sock")
}
