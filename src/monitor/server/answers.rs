//! Answers and events for the daemon.

use std::os::fd::BorrowedFd;

use super::Server;
use crate::{
    monitor::{
        container::Caller,
        envelope::Packet,
        sources::Token,
        v1::{self, message::Content, reply::Result as Answer},
    },
    runtime::error::Error,
};

impl Server {
    pub(super) fn answer(&mut self, caller: Caller, answer: Answer, fds: &[BorrowedFd<'_>]) {
        let reply = v1::Reply { id: caller.request, result: Some(answer) };
        self.send(caller.connection, Content::Reply(reply), fds);
    }

    pub(super) fn fail(&mut self, caller: Caller, error: &Error) {
        self.answer(caller, Answer::Failure(error.into()), &[]);
    }

    pub(super) fn tell(&mut self, content: Content) {
        let connections: Vec<Token> = self.connections.keys().copied().collect();
        for connection in connections {
            self.send(connection, content.clone(), &[]);
        }
    }

    /// A connection that takes no message is closed: its daemon asks for the state when it
    /// connects again, and so loses nothing.
    pub(super) fn send(&mut self, connection: Token, content: Content, fds: &[BorrowedFd<'_>]) {
        let Some(socket) = self.sources.fd(connection) else { return };
        let message = v1::Message { content: Some(content), enclosed: 0 };
        if Packet::of(&message).and_then(|packet| packet.send(socket, fds)).is_err() {
            self.disconnect(connection);
        }
    }
}
