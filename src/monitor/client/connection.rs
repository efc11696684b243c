//! One connection: who waits for what, and what comes.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
};

use tokio::{
    io::Interest,
    net::UnixStream,
    sync::{mpsc, oneshot},
};

use super::{Event, exec::Exit};
use crate::{
    monitor::{
        MAX_MESSAGE, envelope,
        v1::{self, message::Content, reply::Result as Answer},
    },
    sys::socket,
};

#[derive(Debug)]
pub(super) struct Connection {
    pub socket: UnixStream,
    pub pid: Option<u32>,
    pub next: AtomicU64,
    // Short critical sections: one map operation.
    pub waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub closed: bool,
    /// Who the monitor says that it is.
    pub welcome: Option<v1::Welcome>,
    pub replies: HashMap<u64, oneshot::Sender<(Answer, Vec<OwnedFd>)>>,
    pub execs: HashMap<u64, oneshot::Sender<Exit>>,
    /// Those who are told when they are cut off.
    pub attached: HashMap<u64, oneshot::Sender<()>>,
}

impl Connection {
    pub fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dispatch(&self, content: Content, fds: Vec<OwnedFd>, events: &mpsc::UnboundedSender<Event>) {
        match content {
            Content::Reply(reply) => {
                let sender = self.lock().replies.remove(&reply.id);
                if let (Some(sender), Some(answer)) = (sender, reply.result) {
                    // The caller may have given up; the descriptors are closed then.
                    let _ = sender.send((answer, fds));
                }
            }
            Content::ContainerExited(exit) => {
                let _ = events.send(Event::ContainerExited(exit));
            }
            Content::ExecExited(exit) => {
                if let Some(sender) = self.lock().execs.remove(&exit.exec) {
                    let _ = sender.send(Exit { code: exit.exit_code, timed_out: exit.timed_out });
                }
            }
            Content::PodInitExited(_) => {
                let _ = events.send(Event::PodInitExited);
            }
            Content::CallsRefused(refused) => {
                let _ = events.send(Event::CallsRefused(refused));
            }
            Content::Welcome(welcome) => self.lock().welcome = Some(welcome),
            Content::AttachLost(lost) => {
                if let Some(sender) = self.lock().attached.remove(&lost.attach) {
                    let _ = sender.send(());
                }
            }
        }
    }

    fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        // Dropping the senders wakes those who wait.
        waiting.replies.clear();
        waiting.execs.clear();
        waiting.attached.clear();
    }
}

pub(super) async fn receive(connection: Arc<Connection>, events: mpsc::UnboundedSender<Event>) {
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        if connection.socket.readable().await.is_err() {
            break;
        }
        let received = connection
            .socket
            .try_io(Interest::READABLE, || socket::receive(connection.socket.as_fd(), &mut buffer));
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) | Ok((0, _)) => break,
            Ok((length, mut fds)) => {
                // What is not understood is for a daemon to come.
                if let Ok(v1::Message { content: Some(content), .. }) =
                    envelope::open(&buffer[..length], &mut fds)
                {
                    connection.dispatch(content, fds, &events);
                }
            }
        }
    }
    connection.close();
    let _ = events.send(Event::Gone);
}
