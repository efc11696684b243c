//! Those who are attached: each has a pipe for a stream of the container, and gets what is
//! read for the log once it is in the log.
//!
//! A pipe is all the memory that somebody attached has. Whoever has let it fill up can hold up
//! the container for a moment, so that a client that reads loses nothing; then it is cut off,
//! since the container's log and the other clients do not wait for one that does not read.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, write},
};

use super::{Outcome, Server};
use crate::{
    monitor::{
        container::{Caller, Reader},
        sources::{Meaning, Token},
        v1::{self, message::Content, reply::Result as Answer},
    },
    runtime::error::{During, Error},
};

/// How long one chunk of output may wait for one reader.
const PATIENCE: Duration = Duration::from_millis(20);

impl Server {
    pub(super) fn attach(
        &mut self,
        request: &v1::Attach,
        fds: Vec<OwnedFd>,
        caller: Caller,
    ) -> Result<Outcome, Error> {
        let id = &request.container;
        if !self.container(id)?.is_running() {
            return Err(Error::Child {
                kind: crate::kind::Kind::FailedPrecondition,
                message: format!("container {id} is not running"),
            });
        }
        let mut fds = fds.into_iter();
        for (stream, wanted) in [request.stdout, request.stderr].into_iter().enumerate() {
            if !wanted {
                continue;
            }
            let pipe = fds.next().ok_or_else(|| Error::spec("attach", "a pipe is missing"))?;
            rustix::io::ioctl_fionbio(&pipe, true).during("prepare", "pipe")?;
            let pipe = self.watch(pipe, Meaning::Reader(id.clone()))?;
            let reader = Reader { attach: request.attach, stream, pipe };
            self.container(id)?.readers.push(reader);
        }
        let container = self.container(id)?;
        if request.stdin && container.stdin_once && !container.terminal {
            container.stdin_holder = Some(caller.connection);
        }
        let done = Answer::Done(v1::Done {});
        let Some(container) = self.containers.get(id) else { return Ok(Outcome::Now(done)) };
        let input = match container.terminal {
            true => container.outputs.first().and_then(|&token| self.sources.fd(token)),
            false => container.stdin.as_ref().map(AsFd::as_fd),
        };
        // Its own copy, so that the answer can borrow the server.
        let input = input.map(|fd| fd.try_clone_to_owned().during("share", "input")).transpose()?;
        let fds: Vec<BorrowedFd<'_>> = input.iter().map(AsFd::as_fd).collect();
        self.answer(caller, done, &fds);
        Ok(Outcome::Later)
    }

    /// Shows what was read last from a stream to those who are attached to it.
    pub(super) fn show(&mut self, id: &str, stream: usize, length: usize) {
        let Some(container) = self.containers.get(id) else { return };
        let data = &self.buffer[..length];
        let shown = |reader: &Reader| match self.sources.fd(reader.pipe) {
            Some(pipe) if reader.stream == stream => write_within(pipe, data, PATIENCE),
            _ => Fate::Shown,
        };
        let fates: Vec<_> =
            container.readers.iter().map(|reader| (*reader, shown(reader))).collect();
        for (reader, fate) in fates {
            if fate == Fate::Behind {
                self.tell(Content::AttachLost(v1::AttachLost { attach: reader.attach }));
            }
            if fate != Fate::Shown {
                self.end_readers(id, |other| other.attach == reader.attach);
            }
        }
    }

    /// Closes the pipes of some who are attached to a container.
    pub(super) fn end_readers(&mut self, id: &str, ends: impl Fn(&Reader) -> bool) {
        let Some(container) = self.containers.get_mut(id) else { return };
        for reader in container.readers.extract_if(.., |reader| ends(reader)) {
            self.sources.remove(reader.pipe);
        }
    }

    /// Somebody does not read any more.
    pub(super) fn reader_gone(&mut self, pipe: Token, id: &str) {
        self.end_readers(id, |reader| reader.pipe == pipe);
    }

    /// A daemon that is gone cannot end the inputs of its clients, who are gone as well.
    pub(super) fn end_inputs_of(&mut self, connection: Token) {
        for container in self.containers.values_mut() {
            if container.stdin_holder == Some(connection) {
                container.stdin = None;
            }
        }
    }
}

/// What became of one chunk for one reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Shown,
    /// It does not read fast enough.
    Behind,
    /// It does not read any more.
    Gone,
}

fn write_within(pipe: BorrowedFd<'_>, mut data: &[u8], patience: Duration) -> Fate {
    let mut deadline = None;
    while !data.is_empty() {
        match write(pipe, data) {
            Ok(length) => data = &data[length..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let end = *deadline.get_or_insert_with(|| Instant::now() + patience);
                let left = end.saturating_duration_since(Instant::now());
                let mut fds = [PollFd::from_borrowed_fd(pipe, PollFlags::OUT)];
                if left.is_zero() || poll(&mut fds, left.try_into().ok().as_ref()) == Ok(0) {
                    return Fate::Behind;
                }
            }
            Err(_) => return Fate::Gone,
        }
    }
    Fate::Shown
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::fd::AsFd, time::Duration};

    use super::{Fate, write_within};

    #[test]
    fn a_reader_that_reads_gets_everything() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let reading = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes)
        });
        let data: Vec<u8> = (0..1 << 20).map(|number| number as u8).collect();
        assert_eq!(write_within(writer.as_fd(), &data, Duration::from_secs(60)), Fate::Shown);
        drop(writer);
        assert_eq!(reading.join().unwrap().unwrap(), data);
    }

    #[test]
    fn a_reader_that_does_not_read_is_behind() {
        let (reader, writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let data = vec![0; 1 << 20];
        let patience = Duration::from_millis(1);
        assert_eq!(write_within(writer.as_fd(), &data, patience), Fate::Behind);
        drop(reader);
        assert_eq!(write_within(writer.as_fd(), &data, patience), Fate::Gone);
    }
}
