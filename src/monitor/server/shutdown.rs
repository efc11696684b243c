//! The pod's end.
//!
//! Everything is killed, and what the kernel takes its time for is waited for beside all else
//! that is asked. What does not end in time is told, and nothing is taken away from under it.

use std::time::{Duration, Instant};

use super::{Outcome, Server, timers::AGAIN};
use crate::{
    kind::Kind,
    monitor::{
        SHUTDOWN_LIMIT,
        container::{Caller, Phase},
        sources::Meaning,
        v1::{self, reply::Result as Answer},
    },
    runtime::error::Error,
};

/// The shortest and the longest pause between looks whether all have ended.
const LOOKS: [Duration; 2] = [Duration::from_micros(200), Duration::from_millis(20)];

/// A shutdown that is under way.
#[derive(Debug)]
pub(super) struct Shutdown {
    callers: Vec<Caller>,
    give_up_at: Instant,
    kill_at: Instant,
    pause: Duration,
    pub look_at: Instant,
}

impl Server {
    pub(super) fn shut_down(&mut self, caller: Caller) -> Outcome {
        let now = Instant::now();
        let shutdown = self.shutdown.get_or_insert_with(|| Shutdown {
            callers: Vec::new(),
            give_up_at: now + SHUTDOWN_LIMIT,
            kill_at: now,
            pause: LOOKS[0],
            look_at: now,
        });
        shutdown.callers.push(caller);
        Outcome::Later
    }

    pub(super) fn go_on_shutting_down(&mut self) {
        let now = Instant::now();
        let Some(shutdown) = &mut self.shutdown else { return };
        shutdown.look_at = now + shutdown.pause;
        shutdown.pause = (shutdown.pause * 2).min(LOOKS[1]);
        let (kill, give_up) = (shutdown.kill_at <= now, shutdown.give_up_at <= now);
        if kill {
            shutdown.kill_at = now + AGAIN;
            self.kill_all();
        }
        // Told by a signal as well; but this one may have come before the wait.
        if let Some(signals) = self.sources.find(&Meaning::Signals) {
            self.reap(signals);
        }
        if self.nothing_runs() {
            return self.take_everything_away();
        }
        if give_up {
            let error = self.what_runs();
            self.answer_shutdown(&Err(error));
        }
    }

    fn kill_all(&mut self) {
        for container in self.containers.values_mut() {
            if !matches!(container.phase, Phase::Exited { .. }) {
                let _ = container.kill();
            }
            if matches!(&container.phase, Phase::Starting(way) if way.ended.is_some()) {
                container.deadline = Some(Instant::now());
            }
            // What does not end is told at the end.
            let _ = container.cgroup.kill();
        }
    }

    fn nothing_runs(&self) -> bool {
        let ended = |phase: &Phase| !matches!(phase, Phase::Starting(_));
        self.containers.values().all(|c| ended(&c.phase) && c.cgroup.is_empty().is_ok_and(|e| e))
    }

    fn what_runs(&self) -> Error {
        let of = |(id, container): (&String, &crate::monitor::container::Container)| {
            let ended = matches!(container.phase, Phase::Exited { .. });
            match container.cgroup.is_empty() {
                Ok(true) if ended => None,
                Err(error) => Some(error.full_message()),
                Ok(_) => Some(container.lingering(id).to_string()),
            }
        };
        let what: Vec<String> = self.containers.iter().filter_map(of).collect();
        let message =
            format!("the pod has not ended after {SHUTDOWN_LIMIT:?}: {}", what.join("; "));
        Error::Child { kind: Kind::DeadlineExceeded, message }
    }

    fn take_everything_away(&mut self) {
        let removed = self.containers.values().try_for_each(|c| c.cgroup.remove());
        let torn_down = removed.and_then(|()| self.pod.as_ref().map_or(Ok(()), |p| p.tear_down()));
        self.over = torn_down.is_ok();
        self.answer_shutdown(&torn_down);
    }

    fn answer_shutdown(&mut self, result: &Result<(), Error>) {
        let Some(shutdown) = self.shutdown.take() else { return };
        for caller in shutdown.callers {
            match result {
                Ok(()) => self.answer(caller, Answer::Done(v1::Done {}), &[]),
                Err(error) => self.fail(caller, error),
            }
        }
    }
}
