//! Plugins that go on after the daemon that called them was killed.
//!
//! They are found by a mark in their environment, and end before the next daemon calls a
//! plugin: one that hung is in the way of what undoes its work. A process that a plugin left
//! behind on purpose has the mark as well, and stays.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::sys::process::Identity;

/// The variable.
pub(super) const VARIABLE: &str = "CRIQUET_CALLED_BY";
/// An environment is no longer than that (`ARG_MAX` of execve(2) with a common stack).
const LIMIT: u64 = 2 << 20;

/// Which daemon has called a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// Device and inode of its root: in a container another root can have the same path.
    root: (u64, u64),
    /// The daemon's process.
    daemon: Identity,
}

impl Mark {
    /// That of this process.
    pub(super) fn own(root: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(root)?;
        let daemon = Identity::of(std::process::id())?;
        Ok(Self { root: (metadata.dev(), metadata.ino()), daemon })
    }

    /// The variable's value.
    pub(super) fn text(&self) -> String {
        let ((device, inode), Identity { pid, started }) = (self.root, self.daemon);
        format!("{device} {inode} {pid} {started}")
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut numbers = std::str::from_utf8(text).ok()?.split(' ').map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        let (root, pid, started) = ((next()?, next()?), next()?, next()?);
        Some(Self { root, daemon: Identity { pid: u32::try_from(pid).ok()?, started } })
    }

    fn is_of_earlier(&self, own: &Self) -> bool {
        self.root == own.root && self.daemon != own.daemon
    }
}

/// Ends the plugins of earlier daemons, with all that they have started. May wait for a process
/// that keeps its memory locked.
pub(super) fn end(own: &Mark) -> io::Result<()> {
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        let Some(pid) = number.and_then(Pid::from_raw) else { continue };
        // An error is that of one that has ended meanwhile.
        if end_if_left(pid, own).unwrap_or(false) {
            tracing::warn!(
                pid = pid.as_raw_nonzero().get(),
                "a CNI plugin that an earlier daemon called was still there, and is ended"
            );
        }
    }
    Ok(())
}

fn end_if_left(pid: Pid, own: &Mark) -> io::Result<bool> {
    // A plugin leads a process group in the session of its daemon. What it leaves behind is in
    // that group, or has made a session of its own.
    let number = pid.as_raw_nonzero().get();
    let stat = fs::read_to_string(format!("/proc/{number}/stat"))?;
    if group_and_session(&stat).is_none_or(|(group, session)| group != number || session == number)
    {
        return Ok(false);
    }
    let process = Identity::of(u32::try_from(number).unwrap_or_default())?;
    let mark = environment(number)?.into_iter().find_map(|variable| {
        Mark::parse(variable.strip_prefix(VARIABLE.as_bytes())?.strip_prefix(b"=")?)
    });
    if !mark.is_some_and(|mark| mark.is_of_earlier(own)) {
        return Ok(false);
    }
    // The number is still that of the process that was looked at.
    process.open()?;
    match kill_process_group(pid, Signal::KILL) {
        Err(error) if error != rustix::io::Errno::SRCH => Err(error.into()),
        _ => Ok(true),
    }
}

/// From the text of proc_pid_stat(5); those of a thread of the kernel are 0.
fn group_and_session(stat: &str) -> Option<(i32, i32)> {
    // The name in parentheses may hold anything; what follows the last one does not.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(2).map(str::parse);
    Some((fields.next()?.ok()?, fields.next()?.ok()?))
}

fn environment(pid: i32) -> io::Result<Vec<Vec<u8>>> {
    let mut text = Vec::new();
    fs::File::open(format!("/proc/{pid}/environ"))?.take(LIMIT).read_to_end(&mut text)?;
    Ok(text.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::{Identity, Mark, group_and_session};

    #[test]
    fn a_process_says_its_group_and_session() {
        let of = group_and_session;
        assert_eq!(of("7 (a) b) S 1 42 43 0 -1 0\n"), Some((42, 43)));
        assert_eq!(of("2 (kthreadd) S 0 0 0 0 -1"), Some((0, 0)));
        assert_eq!(of("7 (a"), None);
    }

    #[test]
    fn a_mark_is_of_an_earlier_daemon_of_the_same_root() {
        let mark = |root, pid, started| Mark { root, daemon: Identity { pid, started } };
        let own = mark((1, 2), 3, 4);
        assert_eq!(Mark::parse(own.text().as_bytes()), Some(own.clone()));
        for text in [&b""[..], b"1 2 3", b"1 2 3 x", b"1 2 -3 4", b"\xff"] {
            assert_eq!(Mark::parse(text), None);
        }
        assert!(mark((1, 2), 3, 5).is_of_earlier(&own));
        assert!(!own.is_of_earlier(&own));
        assert!(!mark((1, 3), 5, 6).is_of_earlier(&own), "that of another daemon");
    }
}
