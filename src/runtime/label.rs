//! Labels of security modules, which a process has from its `execve` on.
//!
//! All that is written here is read back, from a filesystem that is verified to be the kernel's:
//! a process must not run without the label that it was meant to have.

use std::{
    fs::File,
    io::{self, Write},
    os::{fd::AsFd, unix::fs::FileExt},
};

use oci_spec::runtime::Process;

use super::{error::Error, proc::is_proc};

/// Gives the labels of a process to the next program that this thread executes. Needs the host's
/// `/proc`.
pub(super) fn apply(process: &Process) -> Result<(), Error> {
    if let Some(profile) = process.apparmor_profile() {
        let file = "/proc/thread-self/attr/apparmor/exec";
        let is = |label: &str| {
            // One of another namespace of profiles is not shown as it is written.
            let name = label.rsplit_once(" (").map(|(name, _)| name);
            name.is_some_and(|name| name == profile || profile.starts_with(':'))
        };
        set(file, &format!("exec {profile}"), is).map_err(|source| Error::Label {
            kind: "AppArmor profile",
            label: profile.clone(),
            source,
        })?;
    }
    if let Some(label) = process.selinux_label().as_deref().filter(|label| !label.is_empty()) {
        // Its session keyring is one of the things that it must be able to use.
        for file in ["/proc/thread-self/attr/keycreate", "/proc/thread-self/attr/exec"] {
            set(file, label, |now| now == label).map_err(|source| Error::Label {
                kind: "SELinux label",
                label: label.to_owned(),
                source,
            })?;
        }
    }
    Ok(())
}

/// Writes a label into an attribute of this thread and makes sure that it is there.
fn set(file: &str, label: &str, is: impl Fn(&str) -> bool) -> io::Result<()> {
    let mut attribute = File::options().read(true).write(true).open(file)?;
    if !is_proc(attribute.as_fd()).is_ok_and(|is| is) {
        return Err(io::Error::other(format!("{file} is not on the kernel's /proc")));
    }
    attribute.write_all(label.as_bytes())?;
    // As long as a page, as labels are at most.
    let mut buffer = [0; 4096];
    let length = attribute.read_at(&mut buffer, 0)?;
    let now = String::from_utf8_lossy(&buffer[..length]);
    let now = now.trim_end_matches(['\0', '\n']);
    if is(now) {
        return Ok(());
    }
    Err(io::Error::other(format!("the kernel took it and shows {:?}", now)))
}
