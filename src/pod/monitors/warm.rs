//! Monitors that wait for a pod.
//!
//! The start of a process and the making of namespaces take as long as all the rest of a
//! sandbox, and need not know which pod they are for. A few are kept ready; they end with the
//! daemon, since a monitor without a pod ends when its connection is closed.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::mpsc::{self, UnboundedReceiver};
use tracing::warn;

use crate::{
    monitor::client::{Event, Monitor},
    pod::{
        Pods, blocking,
        error::{During, Error},
    },
};

/// What a waiting monitor has made already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pod) enum Kind {
    /// Network, IPC and UTS namespaces, as most pods have them.
    Isolated,
    /// Nothing: for pods that share some of them with the host.
    Plain,
}

/// A monitor that waits.
pub(in crate::pod) struct Warm {
    kind: Kind,
    /// Where it listens.
    pub socket: PathBuf,
    /// The connection to it.
    pub monitor: Monitor,
    /// What it tells.
    pub events: UnboundedReceiver<Event>,
}

/// Those that wait.
#[derive(Default)]
pub(in crate::pod) struct Pool {
    // Held for one look.
    shelf: Mutex<Shelf>,
    next: AtomicU64,
}

#[derive(Default)]
struct Shelf {
    waiting: Vec<Warm>,
    /// The kinds of those that are being started.
    coming: Vec<Kind>,
}

impl Pool {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that still lives, if there is one.
    pub(in crate::pod) fn take(&self, kind: Kind) -> Option<Warm> {
        let waiting = &mut self.shelf().waiting;
        waiting.retain(|warm| !warm.monitor.is_gone());
        let position = waiting.iter().position(|warm| warm.kind == kind)?;
        Some(waiting.swap_remove(position))
    }

    /// Whether one more is to be started, which then counts as coming.
    fn wants(&self, kind: Kind, enough: usize) -> bool {
        let mut shelf = self.shelf();
        let waiting = shelf.waiting.iter().filter(|warm| warm.kind == kind).count();
        let coming = shelf.coming.iter().filter(|other| **other == kind).count();
        let wants = waiting + coming < enough;
        if wants {
            shelf.coming.push(kind);
        }
        wants
    }

    /// One that was coming is there, or never will be.
    fn arrive(&self, kind: Kind, warm: Option<Warm>) {
        let mut shelf = self.shelf();
        if let Some(position) = shelf.coming.iter().position(|other| *other == kind) {
            shelf.coming.swap_remove(position);
        }
        shelf.waiting.extend(warm);
    }
}

impl Pods {
    /// Removes the sockets of those that waited for an earlier daemon.
    pub(in crate::pod) fn close_pool(&self) -> Result<(), Error> {
        let directory = self.options.pool_directory();
        for entry in fs::read_dir(&directory).during("read", &directory)?.flatten() {
            fs::remove_file(entry.path()).during("remove", &entry.path())?;
        }
        Ok(())
    }

    /// Starts what is missing, in the background.
    pub(in crate::pod) fn fill_pool(self: &Arc<Self>) {
        for kind in [Kind::Isolated, Kind::Plain] {
            if self.pool.wants(kind, self.options.warm_monitors) {
                let pods = Arc::clone(self);
                tokio::spawn(async move {
                    let made = pods.start_warm(kind).await;
                    // A pod that finds none waiting starts its own, and says why it cannot.
                    if let Err(error) = &made {
                        warn!(%error, "no monitor is kept ready");
                    }
                    pods.pool.arrive(kind, made.ok());
                });
            }
        }
    }

    async fn start_warm(self: &Arc<Self>, kind: Kind) -> Result<Warm, Error> {
        let number = self.pool.next.fetch_add(1, Ordering::Relaxed);
        let socket = self.options.pool_directory().join(number.to_string());
        let (sender, events) = mpsc::unbounded_channel();
        let (pods, place) = (Arc::clone(self), socket.clone());
        let start = move || Ok(pods.parts.program.spawn(&place, sender)?);
        let monitor = blocking::own_files(start).await?;
        if kind == Kind::Isolated
            && let Err(error) = monitor.prepare().await
        {
            // It would wait for a pod until this daemon ends.
            let _ = monitor.shut_down().await;
            let _ = fs::remove_file(&socket);
            return Err(error.into());
        }
        Ok(Warm { kind, socket, monitor, events })
    }
}
