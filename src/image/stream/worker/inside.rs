//! The worker itself, from a process with the daemon's rights to one without any.

use std::{
    env,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    process::ExitCode,
};

use rustix::{
    net::{RecvFlags, SendFlags, recv, send},
    process::{Gid, Resource, Rlimit, Signal, Uid, set_parent_process_death_signal, setrlimit},
    thread::{
        CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs, set_thread_groups,
        set_thread_res_gid, set_thread_res_uid,
    },
};

use super::{
    super::{
        decode::{Bounds, Sink, decode},
        window::{Stop, Window},
    },
    NAME, SLOT, SLOTS,
    words::{EMPTIED, GRANTED, LONGEST, Word},
};
use crate::sys::{exec, hardening, seccomp, shared::Shared};

/// Nobody else is this user, so that nobody can send it signals.
const NOBODY: u32 = u32::MAX - 0x1_0000;

/// The most memory that it may map, in bytes: the largest window, and the program.
const MEMORY: u64 = 2 << 30;

/// What is called from here on: reading, writing, and memory.
const CALLS: [libc::c_long; 20] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_mprotect,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Does the work where this program was executed as a worker. Descriptor 0 is the compressed
/// stream, 1 the socket to the daemon, and 2 the file of the shared memory.
pub fn main() -> Option<ExitCode> {
    let mut arguments = env::args();
    if arguments.next()? != NAME {
        return None;
    }
    let word = match work(arguments.next()) {
        Ok(()) => Word::Done,
        Err(error) => Word::Failed(error),
    };
    // Without a reader nobody wants to know. What it says until it goes is read, lest the
    // kernel takes the end of this process for a failure.
    if say(&word).is_ok() {
        let mut message = [0; LONGEST];
        while recv(socket(), &mut message[..], RecvFlags::empty()).is_ok_and(|(n, _)| n > 0) {}
    }
    Some(ExitCode::SUCCESS)
}

fn work(always_allowed: Option<String>) -> io::Result<()> {
    exec::close_inherited();
    let always_allowed = always_allowed.and_then(|number| number.parse().ok());
    let always_allowed = always_allowed.ok_or(io::ErrorKind::InvalidInput)?;
    let memory = Shared::of(rustix::stdio::stderr(), SLOT * SLOTS)?;
    let source = rustix::io::dup(rustix::stdio::stdin())?;
    // What would be said there is said to nobody.
    rustix::stdio::dup2_stderr(&source)?;
    give_up_rights()?;
    let mut ring = Ring { memory, slot: 0, used: 0, free: SLOTS };
    let (windows, stop, worker) = (Default::default(), Stop::default(), None);
    let bounds = Bounds { windows, stop, always_allowed, worker };
    decode(File::from(source), &mut ring, &bounds).map(drop)
}

/// Refused calls fail with `EPERM`: a later release of a library may call something that it can
/// do without.
fn give_up_rights() -> io::Result<()> {
    let most = |value| Rlimit { current: Some(value), maximum: Some(value) };
    for (resource, value) in [
        (Resource::As, MEMORY),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
        (Resource::Nofile, 0),
        (Resource::Nproc, 0),
    ] {
        setrlimit(resource, most(value))?;
    }
    // Who may not change its user is nobody to be feared, and has no capabilities afterwards.
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    let _ = set_thread_groups(&[])
        .and_then(|()| set_thread_res_gid(gid, gid, gid))
        .and_then(|()| set_thread_res_uid(uid, uid, uid));
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    // A change of its user would have taken it back.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    set_no_new_privs(true)?;
    // Both are not in every kernel, and the filter leaves no call for either.
    let _ = hardening::deny_write_execute();
    let _ = hardening::deny_files();
    seccomp::load(&seccomp::only(&CALLS), 0)
}

fn socket() -> BorrowedFd<'static> {
    rustix::stdio::stdout()
}

fn say(word: &Word) -> io::Result<()> {
    rustix::io::retry_on_intr(|| send(socket().as_fd(), &word.to_bytes(), SendFlags::NOSIGNAL))?;
    Ok(())
}

/// The shared memory as a sink.
struct Ring {
    memory: Shared,
    slot: usize,
    used: usize,
    /// Slots that the daemon has emptied, the one that is being filled included.
    free: usize,
}

impl Ring {
    /// Waits for a message of the daemon; true where it grants a window.
    fn hear(&mut self) -> io::Result<bool> {
        let mut message = [0; LONGEST];
        let received =
            rustix::io::retry_on_intr(|| recv(socket(), &mut message[..], RecvFlags::empty()));
        match received.map(|(length, _)| &message[..length])? {
            EMPTIED => {
                self.free += 1;
                Ok(false)
            }
            GRANTED => Ok(true),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Sink for Ring {
    fn space(&mut self) -> io::Result<&mut [u8]> {
        if self.used == SLOT {
            self.flush()?;
        }
        while self.free == 0 {
            self.hear()?;
        }
        let start = self.slot * SLOT;
        Ok(self.memory.part(start + self.used..start + SLOT))
    }

    fn filled(&mut self, amount: usize) {
        self.used += amount;
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.used > 0 {
            say(&Word::Filled(self.used as u64))?;
            (self.used, self.slot, self.free) = (0, (self.slot + 1) % SLOTS, self.free - 1);
        }
        Ok(())
    }

    fn window(&mut self, size: u64) -> io::Result<Option<Window>> {
        say(&Word::Window(size))?;
        while !self.hear()? {}
        Ok(None)
    }
}
