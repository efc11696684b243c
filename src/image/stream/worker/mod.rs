//! Decompression in a process without rights. The bytes that strangers have compressed are
//! read by code of which a part is written in C; who takes it over by them has a process that
//! can open nothing, start nothing and talk to nobody.
//!
//! The worker is this same program under another name. It reads the compressed stream from a
//! pipe and decompresses into a ring of shared memory, from which the daemon copies each piece
//! before it looks at it: digests are those of the copy, and a piece that changes afterwards
//! changes nothing. The daemon trusts the worker with nothing else either: bounds are its own.

mod inside;
mod words;

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::{
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
        sockopt::{Timeout, set_socket_timeout},
    },
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
};

use super::{
    decode::Bounds,
    program::Program,
    window::{LARGEST, Window},
};
use crate::{
    image::{
        Digest,
        digest::{Hasher, Hashing},
    },
    sys::shared::Shared,
};
pub use inside::main;
use words::{EMPTIED, GRANTED, LONGEST, Word};

/// The name by which the program is a worker.
const NAME: &str = "criquet-decompress";

/// The ring: the worker fills one slot while others are read.
const SLOT: usize = 256 << 10;
const SLOTS: usize = 6;

/// What waits in the pipe to the worker, in bytes.
const INPUT: usize = 1 << 20;

/// How often somebody who waits for a worker looks whether anybody still wants what it does.
const LOOK: Duration = Duration::from_secs(1);

/// A worker, as the thread has it that reads what it makes.
pub(super) struct Worker {
    child: Child,
    socket: OwnedFd,
    memory: Shared,
    bounds: Bounds,
    /// The window that it has now.
    window: Option<Window>,
    /// Bytes that it was given.
    fed: Arc<AtomicU64>,
    /// Bytes that it has made.
    made: u64,
    slot: usize,
    /// What it came to.
    end: Option<io::Result<()>>,
}

/// The way in.
pub(super) struct Feed {
    pipe: File,
    fed: Arc<AtomicU64>,
    bounds: Bounds,
}

impl Worker {
    pub(super) fn start(program: &Program, bounds: &Bounds) -> io::Result<(Self, Feed)> {
        let (input, pipe) = pipe_with(PipeFlags::CLOEXEC)?;
        // A small one is as good, and slower: users of the node may have used up what there is.
        let _ = fcntl_setpipe_size(&pipe, INPUT);
        let packets = SocketType::SEQPACKET;
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, packets, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(LOOK))?;
        let (memory, file) = Shared::create("criquet-decompress", SLOT * SLOTS)?;
        let child = Command::new(program.path())
            .arg0(NAME)
            .arg(bounds.always_allowed.to_string())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(theirs))
            .stderr(Stdio::from(file))
            .spawn()?;
        let (fed, bounds) = (Arc::new(AtomicU64::new(0)), bounds.clone());
        let feed = Feed { pipe: pipe.into(), fed: fed.clone(), bounds: bounds.clone() };
        let (window, end) = (None, None);
        let worker = Worker { child, socket, memory, bounds, window, fed, made: 0, slot: 0, end };
        Ok((worker, feed))
    }

    /// Copies the next piece into the buffer; false at the end, whatever that is.
    pub(super) fn next(&mut self, buffer: &mut Vec<u8>) -> bool {
        if self.end.is_some() {
            return false;
        }
        match self.take(buffer) {
            Ok(true) => true,
            end => {
                self.end = Some(end.map(drop));
                false
            }
        }
    }

    /// What it came to. `BrokenPipe` where there would have been more.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.end.is_none() && self.next(&mut Vec::new()) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.end.take().unwrap_or(Ok(()))
    }

    fn take(&mut self, buffer: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            match self.hear()? {
                Word::Filled(length) => {
                    let fits = usize::try_from(length).ok().filter(|l| (1..=SLOT).contains(l));
                    let length = fits.ok_or_else(nonsense)?;
                    self.made += length as u64;
                    self.bounds.check(self.made, self.fed.load(Ordering::Relaxed))?;
                    buffer.resize(length, 0);
                    self.memory.copy(self.slot * SLOT, buffer);
                    self.slot = (self.slot + 1) % SLOTS;
                    // One that has ended needs no more room.
                    let _ = send(&self.socket, EMPTIED, SendFlags::NOSIGNAL);
                    return Ok(true);
                }
                Word::Window(size) if size <= LARGEST => {
                    self.window = None;
                    self.window = Some(self.bounds.windows.take(size, &self.bounds.stop)?);
                    send(&self.socket, GRANTED, SendFlags::NOSIGNAL)?;
                }
                Word::Window(_) => return Err(nonsense()),
                Word::Done => return Ok(false),
                Word::Failed(error) => return Err(error),
            }
        }
    }

    fn hear(&mut self) -> io::Result<Word> {
        let mut message = [0; LONGEST];
        loop {
            match recv(&self.socket, &mut message[..], RecvFlags::empty()) {
                // One that has ended without reading all: what it has said is still there.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
                Err(rustix::io::Errno::AGAIN) => self.bounds.stop.check()?,
                Err(error) => return Err(error.into()),
                Ok((0, _)) => {
                    let status = self.child.wait()?;
                    let reason = format!("the process that decompresses it has ended: {status}");
                    return Err(io::Error::other(reason));
                }
                Ok((length, _)) => {
                    return Word::parse(&message[..length.min(LONGEST)]).ok_or_else(nonsense);
                }
            }
        }
    }
}

fn nonsense() -> io::Error {
    io::Error::other("the process that decompresses it says what no such process says")
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Feed {
    /// Gives all of the source to the worker; answers with its digest.
    pub(super) fn all(mut self, source: impl Read, hasher: Hasher) -> io::Result<Digest> {
        let mut source = Hashing::new(source, hasher);
        let mut buffer = vec![0; SLOT / 2];
        loop {
            self.bounds.stop.check()?;
            let length = match source.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                length => length?,
            };
            if length == 0 {
                return Ok(source.finish());
            }
            self.fed.fetch_add(length as u64, Ordering::Relaxed);
            self.pipe.write_all(&buffer[..length])?;
        }
    }
}
