//! What the event loop waits for: descriptors, each with what it means.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// A source's name in the event loop; never used twice.
pub(super) type Token = u64;

/// What a readable descriptor means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Somebody connects.
    Listener,
    /// A child ended.
    Signals,
    /// A request of the daemon.
    Connection,
    /// A container on its way to its program.
    ContainerReport(String),
    /// An exec on its way to its program.
    ExecReport(u64),
    /// Output of a container: 0 for stdout or the terminal, 1 for stderr.
    Output(String, usize),
    /// A pipe to somebody attached, which is ready only when nobody reads it any more.
    Reader(String),
    /// Calls that the filter of a container refuses.
    Refusals(String),
}

/// Descriptors under one `epoll(7)`.
#[derive(Debug)]
pub(super) struct Sources {
    epoll: OwnedFd,
    entries: BTreeMap<Token, (OwnedFd, Meaning)>,
    next: Token,
}

impl Sources {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, entries: BTreeMap::new(), next: 0 })
    }

    pub(super) fn add(&mut self, fd: OwnedFd, meaning: Meaning) -> io::Result<Token> {
        let token = self.next;
        self.next += 1;
        let flags = match meaning {
            // The end of the other side is always told.
            Meaning::Reader(_) => EventFlags::empty(),
            _ => EventFlags::IN,
        };
        epoll::add(&self.epoll, &fd, EventData::new_u64(token), flags)?;
        self.entries.insert(token, (fd, meaning));
        Ok(token)
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<OwnedFd> {
        // Closing the descriptor takes it off the epoll, unless a child holds a copy still.
        let (fd, _) = self.entries.remove(&token)?;
        let _ = epoll::delete(&self.epoll, &fd);
        Some(fd)
    }

    /// Stops telling of a source, which stays.
    pub(super) fn silence(&self, token: Token) {
        if let Some((fd, _)) = self.entries.get(&token) {
            let _ = epoll::delete(&self.epoll, fd);
        }
    }

    /// Tells of it again.
    pub(super) fn listen_again(&self, token: Token) {
        if let Some((fd, _)) = self.entries.get(&token) {
            let _ = epoll::add(&self.epoll, fd, EventData::new_u64(token), EventFlags::IN);
        }
    }

    pub(super) fn fd(&self, token: Token) -> Option<BorrowedFd<'_>> {
        self.entries.get(&token).map(|(fd, _)| fd.as_fd())
    }

    pub(super) fn meaning(&self, token: Token) -> Option<Meaning> {
        self.entries.get(&token).map(|(_, meaning)| meaning.clone())
    }

    pub(super) fn find(&self, wanted: &Meaning) -> Option<Token> {
        self.entries.iter().find(|(_, (_, meaning))| meaning == wanted).map(|(token, _)| *token)
    }

    /// Waits for something to happen and returns what is ready, at most eight at a time.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<Token>> {
        let timeout = timeout.and_then(|timeout| timeout.try_into().ok());
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 8];
        match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok(count) => Ok(events[..count].iter().map(|event| event.data.u64()).collect()),
            Err(rustix::io::Errno::INTR) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}
