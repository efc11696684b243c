//! Answers to the kernel about calls that filters refuse, and what follows from them.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use super::Server;
use crate::{
    monitor::{
        container::Phase,
        refusals::Refusals,
        sources::{Meaning, Token},
        v1::{self, message::Content},
    },
    runtime::{bundle::read_filter, error::Error},
    sys::{
        notify::{self, Heard},
        seccomp::NEW_LISTENER,
    },
};

/// What a start says of them; none where nobody wants to know.
pub(super) fn of_start(
    request: &v1::Start,
    filter: Option<&OwnedFd>,
) -> Result<Option<Refusals>, Error> {
    let Some(filter) = filter.filter(|_| request.filter_flags & NEW_LISTENER != 0) else {
        return Ok(None);
    };
    let milliseconds = Some(request.stop_after_refusal).filter(|after| *after > 0);
    let stop_after = milliseconds.map(Duration::from_millis);
    Ok(Some(Refusals::new(read_filter(filter)?, stop_after)))
}

impl Server {
    /// A container, or a command in it, has a filter that asks.
    pub(super) fn listen_for_refusals(&mut self, id: &str, listener: OwnedFd) {
        // Without it the calls fail as ones that the kernel lacks.
        let _ = self.watch(listener, Meaning::Refusals(id.to_owned()));
    }

    /// Answers one call: others wait as well.
    pub(super) fn refusal(&mut self, token: Token, id: &str) {
        let Some(listener) = self.sources.fd(token) else { return };
        let refusals = self.containers.get_mut(id).and_then(|one| one.refusals.as_mut());
        match notify::receive(listener) {
            Ok(Heard::Call(notification)) => {
                let count =
                    |refusals: &mut Refusals| refusals.count(&notification.call, Instant::now());
                let errno = refusals.map_or(libc::EPERM, count);
                notify::refuse(listener, &notification, errno);
            }
            Ok(Heard::Nothing) => {}
            Ok(Heard::End) | Err(_) => drop(self.sources.remove(token)),
        }
    }

    /// Tells what was counted, and ends containers that are to end for it.
    pub(super) fn follow_refusals(&mut self, now: Instant) {
        let mut told = Vec::new();
        for (id, container) in &mut self.containers {
            let is_running = matches!(container.phase, Phase::Running { .. });
            let Some(refusals) = &mut container.refusals else { continue };
            if refusals.is_to_tell(now) {
                refusals.told(now);
                told.push(refusals.counts(id));
            }
            if refusals.is_to_stop(now) && is_running {
                container.stopped_for_refusal = true;
                container.deadline = Some(now);
            }
        }
        for refused in told {
            self.tell(Content::CallsRefused(refused));
        }
    }

    /// The last of it, before the end of the container is told.
    pub(super) fn tell_last_refusals(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Some(refusals) = container.refusals.as_mut().filter(|refusals| refusals.is_untold())
        else {
            return;
        };
        refusals.told(Instant::now());
        let counts = refusals.counts(id);
        self.tell(Content::CallsRefused(counts));
    }
}
