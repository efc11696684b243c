//! The terminal of a container: a pair from its own devpts.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::OFlags,
    mount::{OpenTreeFlags, open_tree},
    pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use super::{
    detached,
    error::{During, Error},
    report::Reporter,
    stdio,
};
use crate::sys::path::Root;

/// Opens a terminal in the current root, reports its master side, and makes its other side the
/// standard streams of this process. Whoever executes the program takes control of it.
pub(super) fn open(reporter: &Reporter, rows: u16, columns: u16) -> Result<OwnedFd, Error> {
    let root = detached::root_directory()?;
    let master = Root::new(root.as_fd())
        .open(Path::new("/dev/pts/ptmx"), OFlags::RDWR | OFlags::NOCTTY)
        .during("open", "/dev/pts/ptmx of the container")?;
    unlockpt(&master).during("unlock", "terminal")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).during("open", "terminal")?;
    if rows != 0 && columns != 0 {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&slave, size).during("set size of", "terminal")?;
    }
    reporter.terminal(master.as_fd()).during("hand over", "terminal")?;
    stdio::install(Some(&slave), &slave, &slave, None)?;
    Ok(slave)
}

/// Shows the terminal at `/dev/console`.
pub(super) fn bind(slave: BorrowedFd<'_>) -> Result<(), Error> {
    let root = detached::root_directory()?;
    let console = Path::new("/dev/console");
    let target = Root::new(root.as_fd()).make_file(console).during("create", console.display())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(slave, "", flags).during("open", "terminal")?;
    detached::attach(tree.as_fd(), target.as_fd())
}
