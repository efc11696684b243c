//! Those who connect. Few do: the daemon, and the one after it. Whoever else can reach the
//! socket, or a daemon that was stopped halfway, may take nothing from them.

use rustix::{
    io::Errno,
    net::{SocketFlags, accept_with},
};

use super::{Server, nothing};
use crate::monitor::{
    PROTOCOL,
    sources::{Meaning, Token},
    v1::{self, message::Content},
};

/// The most that are served at once.
const MOST: usize = 16;

impl Server {
    pub(super) fn accept(&mut self, listener: Token) {
        let Some(fd) = self.sources.fd(listener) else { return };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match accept_with(fd, flags) {
            // Whoever connects and is not heard tries again.
            Ok(connection) => {
                if let Ok(token) = self.sources.add(connection, Meaning::Connection) {
                    self.welcome(token);
                    self.make_room();
                }
            }
            // Waiting where it is, it would wake this loop again and again.
            Err(Errno::MFILE | Errno::NFILE) => {
                self.spare = None;
                if let Some(listener) = self.sources.fd(listener) {
                    drop(accept_with(listener, flags));
                }
                self.spare = nothing().ok();
            }
            Err(_) => {}
        }
    }

    /// Begins with who speaks.
    pub(super) fn welcome(&mut self, connection: Token) {
        self.connections.insert(connection, false);
        let build = env!("CARGO_PKG_VERSION").to_owned();
        let welcome = v1::Welcome { protocol: PROTOCOL, build };
        self.send(connection, Content::Welcome(welcome), &[]);
    }

    /// Something sensible came over a connection.
    pub(super) fn trust(&mut self, connection: Token) {
        if let Some(trusted) = self.connections.get_mut(&connection) {
            *trusted = true;
        }
    }

    /// Closes one connection too many: the oldest of those that brought nothing yet, but not
    /// the last one; or else the oldest.
    fn make_room(&mut self) {
        if self.connections.len() <= MOST {
            return;
        }
        let newest = self.connections.keys().next_back().copied();
        let mut mute = self.connections.iter().filter(|(_, trusted)| !**trusted);
        let mute = mute.next().map(|(token, _)| *token).filter(|token| Some(*token) != newest);
        if let Some(token) = mute.or(self.connections.keys().next().copied()) {
            self.disconnect(token);
        }
    }

    /// A monitor that waits for a pod belongs to the daemon that keeps it, and ends with it.
    pub(super) fn disconnect(&mut self, connection: Token) {
        self.connections.remove(&connection);
        self.sources.remove(connection);
        self.end_inputs_of(connection);
        self.over |= self.pod.is_none() && self.connections.is_empty();
    }
}
