//! How many descriptors this process may have (`RLIMIT_NOFILE` of getrlimit(2)), and those it
//! starts.

use std::{io, sync::OnceLock};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

/// The limit that this process was started with, once it has raised its own.
static INHERITED: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit to the hard one: the soft one is small for the sake of programs that
/// use select(2).
///
/// # Errors
/// What the kernel refuses.
pub fn raise() -> io::Result<()> {
    let inherited = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: inherited.maximum, ..inherited })?;
    // Whoever calls twice has the first one's limit to give.
    let _ = INHERITED.set(inherited);
    Ok(())
}

/// Gives a process that was just started the limit that this one was started with; nothing
/// where it was never raised, or where the process has ended.
pub fn give_inherited(pid: Option<u32>) {
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let (Some(pid), Some(inherited)) = (pid, INHERITED.get()) {
        // Only the process's end can keep the kernel from it: the hard limit stays as it is.
        let _ = prlimit(Some(pid), Resource::Nofile, *inherited);
    }
}
