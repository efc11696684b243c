//! What is due at a time: ends of graces, of starts and of execs, and looks at what the kernel
//! tells nobody about.

use std::{
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Server;
use crate::{
    kind::Kind,
    monitor::container::{Caller, ClosedTerminal, Container, Phase},
    runtime::error::Error,
};

/// The pause before what does not end is killed once more: a process may have forked away, or
/// have been frozen meanwhile.
pub(super) const AGAIN: Duration = Duration::from_millis(500);

/// How long after its kill a caller is told that a process does not end.
const AFTER_KILL: Duration = Duration::from_secs(2);

/// The shortest and the longest pause between looks at a closed terminal.
const LOOKS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(500)];

impl Server {
    /// Until something is due.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let containers = self.containers.values();
        let kills = containers.clone().filter_map(|container| container.deadline);
        let looks = containers.filter_map(|c| c.closed_terminal.map(|closed| closed.look_at));
        let refusals = self.containers.values().filter_map(|c| c.refusals.as_ref()?.due_at());
        let execs = self.execs.values().filter_map(|exec| exec.deadline);
        let left = self.left_behind.iter().filter_map(|left| left.kill_at);
        let shutdown = self.shutdown.as_ref().map(|shutdown| shutdown.look_at);
        let due = kills.chain(looks).chain(refusals).chain(execs).chain(left).chain(shutdown).min();
        due.map(|due| due.saturating_duration_since(Instant::now()))
    }

    pub(super) fn do_what_is_due(&mut self) {
        let now = Instant::now();
        self.follow_refusals(now);
        self.end_overdue(now);
        self.end_overdue_execs(now);
        self.end_left_behind(now);
        self.look_at_terminals(now);
    }

    fn end_overdue(&mut self, now: Instant) {
        let (mut given_up, mut over) = (Vec::new(), Vec::new());
        for (id, container) in &mut self.containers {
            if container.deadline.is_none_or(|deadline| deadline > now) {
                continue;
            }
            if let Phase::Starting(way) = &mut container.phase {
                if container.killed_at.is_none() {
                    way.failure.get_or_insert_with(|| too_late(id));
                }
                // A hook runs still, and nobody waits for it any more.
                over.extend(way.ended.map(|(exit_code, _)| (id.clone(), exit_code)));
            }
            // Those that do not end now are in the kernel's hands.
            let _ = container.kill();
            let ended = matches!(container.phase, Phase::Exited { .. });
            container.deadline = (!ended).then_some(now + AGAIN);
            given_up.extend(caller_of_hopeless(container, now).map(|caller| (id.clone(), caller)));
        }
        for (id, exit_code) in over {
            self.start_failed(&id, exit_code);
        }
        for (id, caller) in given_up {
            let error = self.containers.get(&id).map(|container| container.lingering(&id));
            if let Some(error) = error {
                self.fail(caller, &error);
            }
        }
    }

    fn end_overdue_execs(&mut self, now: Instant) {
        let mut given_up = Vec::new();
        for exec in self.execs.values_mut() {
            if exec.deadline.is_none_or(|deadline| deadline > now) {
                continue;
            }
            exec.timed_out |= exec.killed_at.is_none();
            let _ = exec.kill();
            exec.deadline = Some(now + AGAIN);
            if exec.killed_at.is_some_and(|at| now >= at + AFTER_KILL) && !exec.is_running() {
                given_up
                    .extend(exec.way.caller.take().map(|caller| (exec.container.clone(), caller)));
            }
        }
        for (container, caller) in given_up {
            self.fail(caller, &too_late(&container));
        }
    }

    fn end_left_behind(&mut self, now: Instant) {
        for left in &mut self.left_behind {
            if left.kill_at.is_some_and(|at| at <= now) {
                let _ = left.cgroup.kill();
                left.kill_at = Some(now + AGAIN);
            }
        }
        self.left_behind.retain(|left| left.kill_at.is_none() || !left.is_removed());
    }

    /// Nobody has the terminal open; somebody may open it again.
    pub(super) fn terminal_closed(&mut self, id: &str, output: u64) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let (pause, look_at) = (LOOKS[0], Instant::now() + LOOKS[0]);
        container.closed_terminal = Some(ClosedTerminal { output, look_at, pause });
        self.sources.silence(output);
    }

    fn look_at_terminals(&mut self, now: Instant) {
        for container in self.containers.values_mut() {
            let Some(closed) = container.closed_terminal.filter(|closed| closed.look_at <= now)
            else {
                continue;
            };
            if self.sources.fd(closed.output).is_some_and(is_closed) {
                let pause = (closed.pause * 2).min(LOOKS[1]);
                let look_at = now + pause;
                container.closed_terminal = Some(ClosedTerminal { pause, look_at, ..closed });
            } else {
                container.closed_terminal = None;
                self.sources.listen_again(closed.output);
            }
        }
    }
}

/// Whether nobody has the other side of a terminal open, nor left something to read.
fn is_closed(terminal: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(terminal, PollFlags::IN)];
    let looked = poll(&mut polled, Some(&Timespec::default()));
    looked.is_ok() && polled[0].revents() & (PollFlags::IN | PollFlags::HUP) == PollFlags::HUP
}

/// The caller of a start that was killed and does not end.
fn caller_of_hopeless(container: &mut Container, now: Instant) -> Option<Caller> {
    let hopeless = container.killed_at.is_some_and(|at| now >= at + AFTER_KILL);
    match &mut container.phase {
        Phase::Starting(way) if hopeless => way.caller.take(),
        _ => None,
    }
}

/// A process took too long to its program.
pub(super) fn too_late(container: &str) -> Error {
    Error::Child {
        kind: Kind::DeadlineExceeded,
        message: format!(
            "a process of container {container} was not at its program in time, and was killed; \
             a file system of its image, its volumes or its devices may not answer"
        ),
    }
}
