//! The kernel takes the filter, and does what the profile says.

use std::{fs, io, os::fd::OwnedFd, thread};

use oci_spec::runtime::{Capability, LinuxSeccompAction as Action};
use rustix::net::{AddressFamily, SocketType, socket};

use super::{profile, rule};
use crate::{
    runtime::seccomp::{Filter, compile},
    spec::seccomp::default_profile,
    sys::{clone::unshare, seccomp},
};

/// Runs the function in a thread that has the filter; a filter stays with its thread.
fn filtered<T: Send + 'static>(filter: Filter, run: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        seccomp::load(&filter.program, filter.flags).unwrap();
        run()
    });
    thread.join().unwrap()
}

fn errno(result: Result<(), impl Into<io::Error>>) -> Option<i32> {
    result.err().and_then(|error| error.into().raw_os_error())
}

fn open(family: AddressFamily, kind: SocketType) -> rustix::io::Result<OwnedFd> {
    socket(family, kind, None)
}

#[test]
fn the_default_profile_lets_programs_live_and_keeps_them_in() {
    let filter = compile(&default_profile(&Default::default())).unwrap();
    filtered(filter, || {
        assert!(fs::read("/proc/self/status").unwrap().starts_with(b"Name:"));
        assert_eq!(thread::spawn(|| 7).join().unwrap(), 7);
        assert!(open(AddressFamily::INET, SocketType::STREAM).is_ok());
        let alg =
            open(AddressFamily::from_raw(libc::AF_ALG as u16), SocketType::SEQPACKET).map(drop);
        assert_eq!(errno(alg), Some(libc::EPERM));
        assert_eq!(errno(unshare(libc::CLONE_NEWUTS)), Some(libc::EPERM));
        assert_eq!(errno(rustix::process::chroot("/")), Some(libc::EPERM));
        let uts = rustix::system::sethostname(b"other");
        assert_eq!(errno(uts), Some(libc::EPERM));
    });
}

#[test]
fn capabilities_open_their_calls() {
    let capabilities = [Capability::SysChroot].into();
    let filter = compile(&default_profile(&capabilities)).unwrap();
    filtered(filter, || {
        // The filter lets it through; the kernel then looks for the directory.
        let absent = rustix::process::chroot("/nothing/here");
        assert_eq!(errno(absent), Some(libc::ENOENT));
    });
}

#[test]
fn calls_newer_than_the_profile_are_unknown_to_programs() {
    let profile = profile(
        Action::ScmpActErrno,
        &[],
        vec![rule(
            &[
                "read",
                "write",
                "futex",
                "munmap",
                "exit",
                "sigaltstack",
                "madvise",
                "rt_sigprocmask",
            ],
            Action::ScmpActAllow,
            vec![],
        )],
    );
    filtered(compile(&profile).unwrap(), || {
        let opened = rustix::fs::openat2(
            rustix::fs::CWD,
            "/",
            rustix::fs::OFlags::PATH,
            rustix::fs::Mode::empty(),
            rustix::fs::ResolveFlags::empty(),
        );
        assert_eq!(errno(opened.map(drop)), Some(libc::ENOSYS));
        // Older than futex and not named.
        assert_eq!(errno(rustix::process::chdir("/")), Some(libc::EPERM));
    });
}
