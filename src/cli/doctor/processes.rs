//! Monitors, by the sockets that they listen at.

use std::{collections::HashMap, fs, path::Path};

use super::thing::{Owner, Removal, Thing, is_id};
use crate::sys::process::Identity;

/// What monitors are called, whatever they were executed from.
const NAME: &str = "criquet-monitor";

/// All monitors that listen below a directory of state. Sockets are listed by network namespace:
/// those of a daemon in its own.
pub(super) fn monitors(state: &Path, daemon: Option<u32>) -> Vec<Thing> {
    let table = match daemon {
        Some(pid) => format!("/proc/{pid}/net/unix"),
        None => "/proc/self/net/unix".to_owned(),
    };
    let sockets = sockets(state, &fs::read_to_string(table).unwrap_or_default());
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| monitor(pid, &sockets)).collect()
}

/// The pods by whose names sockets below `state` are called, by the links to those sockets.
fn sockets(state: &Path, table: &str) -> HashMap<String, Option<String>> {
    let socket = |line: &str| {
        let mut fields = line.split_whitespace();
        let (inode, path) = (fields.nth(6)?, fields.next()?);
        let rest = Path::new(path).strip_prefix(state).ok()?;
        let pod = rest.strip_prefix("pods").ok().and_then(|rest| rest.iter().next());
        let pod = pod.and_then(|name| name.to_str()).filter(|name| is_id(name));
        Some((format!("socket:[{inode}]"), pod.map(str::to_owned)))
    };
    table.lines().filter_map(socket).collect()
}

fn monitor(pid: u32, sockets: &HashMap<String, Option<String>>) -> Option<Thing> {
    let directory = format!("/proc/{pid}");
    if fs::read_to_string(format!("{directory}/comm")).ok()?.trim() != NAME {
        return None;
    }
    let process = Identity::of(pid).ok()?;
    let links = fs::read_dir(format!("{directory}/fd")).ok()?.flatten();
    let links = links.filter_map(|fd| fs::read_link(fd.path()).ok()?.to_str().map(str::to_owned));
    let listens_for = links.filter_map(|link| sockets.get(&link)).next()?.clone();
    let status = fs::read_to_string(format!("{directory}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    let parent = parent.and_then(|pid| pid.trim().parse().ok())?;
    Some(Thing {
        what: "process",
        place: format!("{pid} ({NAME})"),
        owner: Owner::Monitor { process, parent, listens_for },
        mark: process.started,
        removal: Removal::Kill(process),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::sockets;

    #[test]
    fn sockets_are_known_by_their_places() {
        let id = "b".repeat(64);
        let table = format!(
            "Num       RefCount Protocol Flags    Type St Inode Path\n\
             0: 00000002 00000000 00010000 0005 01 41 /run/criquet/pods/{id}/m\n\
             0: 00000002 00000000 00010000 0005 01 42 /run/criquet/pool/3\n\
             0: 00000002 00000000 00010000 0005 01 43 /run/other/pool/3\n\
             0: 00000002 00000000 00010000 0005 01 44\n"
        );
        let found = sockets(Path::new("/run/criquet"), &table);
        assert_eq!(found.len(), 2);
        assert_eq!(found["socket:[41]"], Some(id));
        assert_eq!(found["socket:[42]"], None);
    }
}
