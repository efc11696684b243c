//! Processes, named so that no later one with the same number is meant.

use std::{fs, io, os::fd::OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process: its number, and when it was started, in clock ticks since the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The process id.
    pub pid: u32,
    /// `starttime` of proc_pid_stat(5).
    pub started: u64,
}

/// What of `/proc/PID/stat` is of use here.
struct Stat {
    state: char,
    started: u64,
}

impl Identity {
    /// The process that has this number now.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub fn of(pid: u32) -> io::Result<Self> {
        Ok(Self { pid, started: stat(&format!("/proc/{pid}"))?.started })
    }

    /// A descriptor of the process (pidfd_open(2)).
    ///
    /// # Errors
    /// `NotFound` where it has ended and was reaped.
    pub fn open(&self) -> io::Result<OwnedFd> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::NotFound)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        // Whom the descriptor names is decided: it is the one if its start is the same.
        match Self::of(self.pid) {
            Ok(now) if now == *self => Ok(pidfd),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Sends SIGKILL; one that has ended is as good.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn kill(&self) -> io::Result<()> {
        match self.open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            Err(error) => Err(error),
            Ok(pidfd) => match pidfd_send_signal(&pidfd, Signal::KILL) {
                Err(error) if error != rustix::io::Errno::SRCH => Err(error.into()),
                _ => Ok(()),
            },
        }
    }

    /// Whether no instruction of its program will ever be executed again: it has ended, or it
    /// was killed and only waits for the kernel, which may take as long as a file system does
    /// not answer.
    pub fn is_over(&self) -> bool {
        let directory = format!("/proc/{}", self.pid);
        match stat(&directory) {
            Ok(stat) if stat.started == self.started => {
                matches!(stat.state, 'Z' | 'X') || is_killed(&directory)
            }
            _ => true,
        }
    }
}

/// A thread on which SIGKILL is pending takes its whole process along (signal(7)).
fn is_killed(directory: &str) -> bool {
    let Ok(threads) = fs::read_dir(format!("{directory}/task")) else { return false };
    threads.flatten().any(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let pending = |field: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(field));
            value.and_then(|value| u64::from_str_radix(value.trim(), 16).ok()).unwrap_or(0)
        };
        let kill = 1 << (libc::SIGKILL - 1);
        (pending("SigPnd:") | pending("ShdPnd:")) & kill != 0
    })
}

fn stat(directory: &str) -> io::Result<Stat> {
    let text = fs::read_to_string(format!("{directory}/stat"))?;
    // The name in parentheses may hold anything; what follows the last one does not.
    let rest = text.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
    let fields: Vec<&str> = rest.split(' ').collect();
    // `state` is field 3, `starttime` field 22.
    let state = fields.first().and_then(|field| field.chars().next());
    let started = fields.get(19).and_then(|field| field.parse().ok());
    match (state, started) {
        (Some(state), Some(started)) => Ok(Stat { state, started }),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::Identity;

    #[test]
    fn a_process_is_known_until_it_ends_and_no_other_is_taken_for_it() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let identity = Identity::of(child.id()).unwrap();
        assert!(!identity.is_over());
        let other = Identity { started: identity.started + 1, ..identity };
        assert!(other.is_over());
        assert!(other.open().is_err());
        other.kill().unwrap();
        assert!(!identity.is_over(), "only the one that is meant is killed");
        identity.kill().unwrap();
        child.wait().unwrap();
        assert!(identity.is_over());
        identity.kill().unwrap();
    }
}
