//! Answers and events for the daemon.

use std::os::fd::BorrowedFd;

use prost::Message as _;

use super::Server;
use crate::{
    monitor::{
        container::Caller,
        sources::Token,
        v1::{self, message::Content, reply::Result as Answer},
    },
    runtime::error::Error,
    sys::socket,
};

impl Server {
    pub(super) fn answer(&mut self, caller: Caller, answer: Answer, fds: &[BorrowedFd<'_>]) {
        let reply = v1::Reply { id: caller.request, result: Some(answer) };
        self.send(caller.connection, &Content::Reply(reply), fds);
    }

    pub(super) fn fail(&mut self, caller: Caller, error: &Error) {
        self.answer(caller, Answer::Failure(error.into()), &[]);
    }

    pub(super) fn tell(&mut self, content: Content) {
        for connection in self.sources.connections() {
            self.send(connection, &content, &[]);
        }
    }

    /// A connection that takes no message is closed: its daemon asks for the state when it
    /// connects again, and so loses nothing.
    pub(super) fn send(&mut self, connection: Token, content: &Content, fds: &[BorrowedFd<'_>]) {
        let Some(socket) = self.sources.fd(connection) else { return };
        let message = v1::Message { content: Some(content.clone()) };
        if socket::send(socket, &message.encode_to_vec(), fds).is_err() {
            self.disconnect(connection);
        }
    }

    /// A monitor that waits for a pod belongs to the daemon that keeps it, and ends with it.
    pub(super) fn disconnect(&mut self, connection: Token) {
        self.sources.remove(connection);
        self.end_inputs_of(connection);
        self.over |= self.pod.is_none() && self.sources.connections().is_empty();
    }
}
