//! Removes strangers: those who use other things first, then what lies in others.

use std::{
    cmp::Reverse,
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use rustix::mount::{UnmountFlags, unmount};

use super::thing::{Removal, Thing};
use crate::{
    admin::v1::RemoveStrayRequest,
    cli::{image::Client, output::print},
    kind::chain,
    runtime::cgroup::{Cgroup, Version},
    sys::tree,
};

/// How long processes may take to end after SIGKILL.
const AFTER_KILL: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(5);

/// Removes them all, and tells of each. Whether all are gone.
pub(super) fn all(client: &Client, mut strangers: Vec<Thing>) -> bool {
    // What lies deeper goes before what it lies in.
    strangers.sort_by_key(|thing| (thing.removal.turn(), Reverse(thing.place.clone())));
    let mut are_gone = true;
    for thing in &strangers {
        let (what, place) = (thing.what, &thing.place);
        match remove(client, &thing.removal) {
            // What cannot be printed is done all the same.
            Ok(()) => drop(print(&format!("removed {what} {place}\n"))),
            Err(reason) => {
                are_gone = false;
                eprintln!("criquet: {what} {place} is not removed: {reason}");
            }
        }
    }
    are_gone
}

fn remove(client: &Client, removal: &Removal) -> Result<(), String> {
    let words = |error: io::Error| error.to_string();
    match removal {
        Removal::Kill(process) => process.kill().map_err(words),
        Removal::Cgroup { path, .. } => end_cgroup(path),
        Removal::Unmount(path) => detach(path).map_err(words),
        Removal::UnmountAndDelete(path) => {
            detach(path).and_then(|()| fs::remove_file(path)).map_err(words)
        }
        Removal::Delete(path) => tree::remove_at(path).map_err(words),
        Removal::Daemon(kind, name) => {
            let request = RemoveStrayRequest { kind: (*kind).into(), name: name.clone() };
            let removed = client.ask(client.admin().remove_stray(request));
            removed.map(drop).map_err(|error| chain(&error))
        }
    }
}

/// One that is not mounted is as good.
fn detach(path: &Path) -> io::Result<()> {
    match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A process that was killed is there until its parent has taken note.
fn end_cgroup(path: &Path) -> Result<(), String> {
    let version = Version::detect().map_err(|error| error.to_string())?;
    let Ok(cgroup) = Cgroup::open(version, path) else { return Ok(()) };
    let patience = Instant::now() + AFTER_KILL;
    loop {
        let end = cgroup.kill().and_then(|()| cgroup.remove());
        match end {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > patience => {
                return Err(format!("{}; its processes may wait for the kernel", chain(&error)));
            }
            Err(_) => std::thread::sleep(STEP),
        }
    }
}
