//! Namespaces: a child is cloned into each kind of them.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    io::retry_on_intr,
    pipe::{PipeFlags, pipe_with},
    process::{WaitId, WaitIdOptions, waitid},
};

use super::finding::Finding;
use crate::sys::{
    clone::{Cloned, SingleThreaded, clone3},
    exec::exit,
};

const REQUIRED: [(&str, libc::c_int); 6] = [
    ("mount namespace", libc::CLONE_NEWNS),
    ("PID namespace", libc::CLONE_NEWPID),
    ("network namespace", libc::CLONE_NEWNET),
    ("IPC namespace", libc::CLONE_NEWIPC),
    ("UTS namespace", libc::CLONE_NEWUTS),
    ("cgroup namespace", libc::CLONE_NEWCGROUP),
];

/// `CLONE_NEWTIME`.
const NEW_TIME: libc::c_int = 0x80;

/// What could be cloned, and a user namespace for what else is to be tried.
pub(super) fn survey() -> (Vec<Finding>, io::Result<OwnedFd>) {
    let proof = match SingleThreaded::prove() {
        Ok(proof) => proof,
        Err(error) => {
            let mend = "run `criquet check` as a command of its own";
            let finding = Finding::warn("namespaces", format!("not tried: {error}"), mend);
            return (vec![finding], Err(io::Error::other("no user namespace could be tried")));
        }
    };
    let mend = "use a kernel with all of CONFIG_NAMESPACES, 5.15 or later";
    let mut findings = vec![Finding::required("clone3 and pidfd", child_in(&proof, 0), mend)];
    findings
        .extend(REQUIRED.map(|(what, flag)| Finding::required(what, child_in(&proof, flag), mend)));
    findings.push(Finding::useful(
        "time namespace",
        child_in(&proof, NEW_TIME),
        "use a kernel with CONFIG_TIME_NS",
    ));
    let user_namespace = user_namespace(&proof);
    findings.push(judge_user_namespace(
        user_namespace.as_ref().map(drop),
        fs::read_to_string("/proc/sys/user/max_user_namespaces").ok().as_deref(),
    ));
    (findings, user_namespace)
}

/// Clones a child that ends at once, and waits for it by its pidfd.
fn child_in(proof: &SingleThreaded, namespace: libc::c_int) -> io::Result<()> {
    match clone3(proof, namespace, None)? {
        Cloned::Child => exit(0),
        Cloned::Parent { pidfd, .. } => wait(pidfd.as_fd()),
    }
}

fn wait(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    retry_on_intr(|| waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED))?;
    Ok(())
}

/// A user namespace of 65536 users. It lives as long as its descriptor.
pub(super) fn user_namespace(proof: &SingleThreaded) -> io::Result<OwnedFd> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    match clone3(proof, libc::CLONE_NEWUSER, None)? {
        Cloned::Child => {
            // The end of the parent's side is the sign that the namespace was opened.
            drop(writer);
            let _ = rustix::io::read(&reader, &mut [0; 1]);
            exit(0)
        }
        Cloned::Parent { pid, pidfd } => {
            let process = format!("/proc/{}", pid.as_raw_nonzero());
            let opened = fs::write(format!("{process}/uid_map"), "0 100000 65536")
                .and_then(|()| fs::write(format!("{process}/gid_map"), "0 100000 65536"))
                .and_then(|()| File::open(format!("{process}/ns/user")));
            drop(writer);
            wait(pidfd.as_fd())?;
            Ok(opened?.into())
        }
    }
}

fn judge_user_namespace(tried: Result<(), &io::Error>, limit: Option<&str>) -> Finding {
    let what = "user namespace";
    let limit = limit.and_then(|limit| limit.trim().parse::<u64>().ok());
    match (tried, limit) {
        (Ok(()), Some(limit)) => Finding::ok(what, format!("works, {limit} at most")),
        (Ok(()), None) => Finding::ok(what, "works"),
        (Err(error), Some(0)) => Finding::warn(
            what,
            format!("{error}; user.max_user_namespaces is 0"),
            "set sysctl user.max_user_namespaces=65536 for pods with hostUsers: false",
        ),
        (Err(error), _) => Finding::warn(
            what,
            error,
            "use a kernel with CONFIG_USER_NS for pods with hostUsers: false",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::judge_user_namespace;
    use crate::cli::check::Status;

    #[test]
    fn the_sysctl_is_named_where_it_is_the_cause() {
        assert_eq!(judge_user_namespace(Ok(()), Some("100\n")).status, Status::Ok);
        let error = io::Error::from_raw_os_error(libc::ENOSPC);
        let finding = judge_user_namespace(Err(&error), Some("0\n"));
        assert!(finding.mend.contains("max_user_namespaces"), "{finding:?}");
        let finding = judge_user_namespace(Err(&error), Some("5"));
        assert!(finding.mend.contains("CONFIG_USER_NS"), "{finding:?}");
    }
}
