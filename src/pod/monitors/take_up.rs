//! Taking up a pod: connecting to its monitor and learning what happened meanwhile, after a
//! restart of the daemon, and whenever the connection was lost or did not answer.
//!
//! Each pod has a task of its own for this. A monitor that does not answer keeps it and nobody
//! else; a monitor that is gone ends its pod, since nobody else reaps the pod's processes,
//! reads their output or knows their cgroups.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tracing::{info, warn};

use super::exits;
use crate::{
    kind::{Kind, chain},
    monitor::{
        client::{self, Monitor},
        record::ExitRecord,
        v1,
    },
    pod::{
        Pods, blocking,
        container::{Container, ContainerPhase},
        error::{Error, Reason},
        sandbox::{Sandbox, SandboxPhase, Trouble},
    },
};

/// How long a monitor may take for one answer before it counts as silent.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How long a call waits before it is found out whether the monitor answers at all.
const SUSPICION: Duration = Duration::from_secs(2);

/// The pauses between attempts to reach a monitor: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(10)];

/// Pods that are asked at once, so that calls are answered beside that.
const AT_ONCE: usize = 8;

/// After so long the next pod has its turn as well.
const TURN: Duration = Duration::from_millis(50);

/// Whose turn it is to be taken up.
pub(in crate::pod) struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }
}

/// What has become of an attempt to reach a monitor.
enum Reached {
    /// It answers.
    Connected(Monitor),
    /// There is none any more.
    Gone,
    /// It is there, or may be there, and does not answer.
    Silent(&'static str, String),
}

impl Pods {
    /// Takes a pod up, beside everything else, for as long as that takes.
    pub(in crate::pod) fn take_up(self: &Arc<Self>, sandbox: &Arc<Sandbox>) {
        let Some(turn) = sandbox.take_turn() else { return };
        let (pods, sandbox) = (Arc::clone(self), Arc::clone(sandbox));
        tokio::spawn(async move {
            let _turn = turn;
            let mut pause = PAUSES[0];
            // Who ends the pod does without its monitor.
            while !sandbox.ending.is_cancelled() && sandbox.record().phase == SandboxPhase::Ready {
                if pods.try_in_turn(&sandbox).await {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = sandbox.ending.cancelled() => return,
                }
                pause = (pause * 2).min(PAUSES[1]);
            }
        });
    }

    /// Whether nothing is left to be tried. A pod that takes its time has its turn while others
    /// have theirs: it keeps nobody waiting.
    async fn try_in_turn(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> bool {
        let turn = self.turns.0.acquire().await;
        let mut attempt = std::pin::pin!(self.try_to_take_up(sandbox));
        match timeout(TURN, &mut attempt).await {
            Ok(is_done) => is_done,
            Err(_) => {
                drop(turn);
                attempt.await
            }
        }
    }

    /// Whether nothing is left to be tried.
    async fn try_to_take_up(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> bool {
        let (stage, words) = match self.reach(sandbox).await {
            Reached::Gone => {
                warn!(sandbox.id = %sandbox.id, "the pod's monitor is gone; ending the pod");
                self.end_orphaned(sandbox).await;
                return true;
            }
            Reached::Silent(stage, words) => (stage, words),
            Reached::Connected(monitor) => match self.reconcile(sandbox, &monitor).await {
                Ok(()) => {
                    if sandbox.answers() {
                        info!(sandbox.id = %sandbox.id, "the pod's monitor answers again");
                    }
                    return true;
                }
                Err(error) => ("asking for its containers", chain(&error)),
            },
        };
        if sandbox.is_silent(stage, words.clone()) {
            warn!(sandbox.id = %sandbox.id, stage, reason = words,
                "the pod's monitor does not answer; its pod is not ready until it does");
        }
        false
    }

    /// The connection that there is, or a new one.
    async fn reach(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Reached {
        if let Some(monitor) = sandbox.monitor().filter(|monitor| !monitor.is_gone()) {
            return Reached::Connected(monitor);
        }
        let place = match self.places.take() {
            Ok(place) => place,
            Err(error) => return Reached::Silent("connecting to it", chain(&error)),
        };
        let (events, receiver) = mpsc::unbounded_channel();
        match self.connect(&self.socket_of(&sandbox.id), events).await {
            Reached::Connected(monitor) => {
                sandbox.set_monitor(monitor.clone(), place);
                exits::watch(self, sandbox, receiver);
                Reached::Connected(monitor)
            }
            // A record of this boot names the process, which says for certain.
            Reached::Gone if self.monitor_lives(sandbox) => {
                Reached::Silent("connecting to it", "nobody listens at its socket".to_owned())
            }
            other => other,
        }
    }

    async fn connect(
        &self,
        socket: &std::path::Path,
        events: mpsc::UnboundedSender<client::Event>,
    ) -> Reached {
        let socket = socket.to_owned();
        let runtime = tokio::runtime::Handle::current();
        let connecting = blocking::own_files(move || {
            let _runtime = runtime.enter();
            Ok(Monitor::connect(&socket, events))
        });
        match timeout(ANSWER_LIMIT, connecting).await {
            Ok(Ok(Ok(monitor))) => Reached::Connected(monitor),
            Ok(Ok(Err(client::Error::Gone))) => Reached::Gone,
            Ok(Ok(Err(error))) => Reached::Silent("connecting to it", chain(&error)),
            Ok(Err(error)) => Reached::Silent("connecting to it", chain(&error)),
            Err(_) => Reached::Silent("connecting to it", "no answer".to_owned()),
        }
    }

    fn monitor_lives(&self, sandbox: &Sandbox) -> bool {
        let record = sandbox.record();
        record.boot_id == self.boot_id && record.monitor.is_some_and(|monitor| !monitor.is_over())
    }

    /// Whoever waits for a monitor in vain says so here: whether it answers at all is found
    /// out, and the pod is not ready until it does.
    fn suspect(self: &Arc<Self>, sandbox: &Arc<Sandbox>) {
        if sandbox.trouble().is_none() && !sandbox.ending.is_cancelled() {
            self.take_up(sandbox);
        }
    }

    /// Waits for the answer of a pod's monitor for as long as the monitor answers anything at
    /// all: what it is asked for may take its time.
    ///
    /// # Errors
    /// What it answers, and [`Reason::Silent`] once it does not answer.
    pub(in crate::pod) async fn ask<T>(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        action: &'static str,
        call: impl Future<Output = Result<T, client::Error>>,
    ) -> Result<T, Error> {
        tokio::pin!(call);
        loop {
            tokio::select! {
                answer = &mut call => return Ok(answer?),
                () = tokio::time::sleep(SUSPICION) => self.suspect(sandbox),
            }
            if let Some(trouble) = sandbox.trouble() {
                let Trouble { stage, words, .. } = trouble;
                let id = sandbox.id.to_string();
                return Err(Reason::Silent { id, stage, words, action }.into());
            }
        }
    }

    /// Takes over what happened while no daemon was there.
    async fn reconcile(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        monitor: &Monitor,
    ) -> Result<(), Error> {
        // Only of these can it be said that the monitor does not know them any more: a start
        // may come to its end while this is under way.
        let containers = self.containers_of(sandbox);
        let ran: Vec<_> = containers.iter().filter(|one| one.is_running()).cloned().collect();
        let v1::States { containers: states, init_exited, .. } = self.settled(monitor).await?;
        let directory = self.sandbox_directory(&sandbox.id);
        let known: HashMap<&str, _> =
            states.iter().map(|state| (state.container.as_str(), state)).collect();
        for container in self.containers_of(sandbox) {
            let state = known.get(container.id.as_str()).copied();
            let ran = ran.iter().any(|other| other.id == container.id);
            if state.is_some() || ran {
                self.reconcile_container(&container, state, &directory).await;
            }
        }
        for refused in states.iter().filter_map(|state| state.refused.as_ref()) {
            self.calls_refused(refused);
        }
        for state in &states {
            match self.container(&state.container) {
                // It was removed but for this last step.
                Err(_) => {
                    gone_is_as_good(monitor.stop(&state.container, libc::SIGKILL, 0).await)?;
                    if state.exited.is_some() {
                        gone_is_as_good(monitor.delete(&state.container).await)?;
                    }
                }
                // The answer to its start was lost, and its caller was told that it failed.
                Ok(container) if container.has_ended() && state.exited.is_none() => {
                    gone_is_as_good(monitor.stop(&state.container, libc::SIGKILL, 0).await)?;
                }
                Ok(_) => {}
            }
        }
        if init_exited {
            self.pod_init_exited(sandbox);
        }
        Ok(())
    }

    async fn reconcile_container(
        &self,
        container: &Arc<Container>,
        state: Option<&v1::ContainerState>,
        directory: &std::path::Path,
    ) {
        let phase = container.record().phase.clone();
        match (phase, state) {
            (ContainerPhase::Exited { .. }, _) | (ContainerPhase::Created, None) => {}
            (ContainerPhase::Running { .. }, None) => {
                let (path, id) = (directory.to_owned(), container.id.clone());
                let read = move || Ok(ExitRecord::read(&path, id.as_str()));
                match blocking::own_files(read).await.ok().flatten() {
                    Some(exit) => container.ended_with(&self.parts.database, &exit),
                    None => self.record_unknown(container, "its monitor does not know it"),
                }
            }
            (_, Some(state)) => {
                if state.started_at != 0 && !container.is_starting() {
                    let (pid, started_at) = (state.pid, state.started_at);
                    container.observe(&self.parts.database, |record| {
                        let is_news = record.phase == ContainerPhase::Created;
                        if is_news {
                            record.phase = ContainerPhase::Running { pid, started_at };
                        }
                        is_news
                    });
                }
                if let Some(exit) = &state.exited {
                    container.ended_with(&self.parts.database, &ExitRecord::from(exit));
                }
            }
        }
    }

    /// Ends a pod whose monitor is gone: its containers are over at once, and what is left of
    /// it goes as soon as it can.
    async fn end_orphaned(self: &Arc<Self>, sandbox: &Arc<Sandbox>) {
        sandbox.ending.cancel();
        let directory = self.sandbox_directory(&sandbox.id);
        for container in self.containers_of(sandbox) {
            if container.is_settled() {
                continue;
            }
            if let Err(error) = self.empty_cgroup(&container).await {
                warn!(container.id = %container.id, error = %chain(&error), "it is not ended yet");
            }
            let (path, id) = (directory.clone(), container.id.clone());
            let read = move || Ok(ExitRecord::read(&path, id.as_str()));
            match blocking::own_files(read).await.ok().flatten() {
                Some(exit) => container.ended_with(&self.parts.database, &exit),
                None => self.record_unknown(&container, "the monitor of its pod was gone"),
            }
        }
        self.dismantle_later(sandbox);
    }

    /// What a monitor has, once none of its containers is on the way to its program any longer:
    /// the answer to that start went to a daemon that is no more, so one that takes too long is
    /// ended, as its caller will start another. One that this daemon starts has its own limit.
    async fn settled(&self, monitor: &Monitor) -> Result<v1::States, Error> {
        const PATIENCE: Duration = Duration::from_secs(5);
        let end = Instant::now() + PATIENCE;
        loop {
            let asking = timeout(ANSWER_LIMIT, monitor.state());
            let states = asking.await.unwrap_or(Err(client::Error::Gone))?;
            let containers = states.containers.iter();
            let starting = containers.filter(|state| {
                let is_ours =
                    || self.container(&state.container).is_ok_and(|one| one.is_starting());
                state.started_at == 0 && state.exited.is_none() && !is_ours()
            });
            let starting: Vec<_> = starting.map(|state| state.container.clone()).collect();
            if starting.is_empty() || Instant::now() > end + PATIENCE {
                return Ok(states);
            }
            if Instant::now() > end {
                for container in starting {
                    monitor.stop(&container, libc::SIGKILL, 0).await?;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Somebody else may have removed it meanwhile.
fn gone_is_as_good(answer: Result<(), client::Error>) -> Result<(), client::Error> {
    match answer {
        Err(client::Error::Refused { kind: Kind::NotFound, .. }) => Ok(()),
        other => other,
    }
}
