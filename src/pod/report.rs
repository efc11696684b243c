//! What the daemon is doing: the one source of `criquet status`, of the report that a signal
//! asks for, and of the figures of what there is.

use std::{collections::BTreeMap, time::Duration};

use super::{Container, ContainerPhase, Pods, Readers, Sandbox, SandboxPhase};
use crate::telemetry::UnderWay;

/// The states of a sandbox, as people are told of them.
pub const SANDBOX_STATES: [&str; 4] = ["creating", "ready", "silent", "not ready"];

/// Those of a container.
pub const CONTAINER_STATES: [&str; 3] = ["created", "running", "exited"];

/// How many there are in each state, those without any included.
pub type Counts = BTreeMap<&'static str, usize>;

/// A pod whose monitor does not answer.
#[derive(Debug, Clone)]
pub struct Silent {
    /// The sandbox.
    pub id: String,
    /// What its monitor was asked for.
    pub stage: &'static str,
    /// What became of it.
    pub words: String,
    /// For how long.
    pub age: Duration,
}

/// All of it at one moment.
#[derive(Debug, Clone)]
pub struct Report {
    /// Sandboxes by state.
    pub sandboxes: Counts,
    /// Containers by state.
    pub containers: Counts,
    /// Pods that do not answer.
    pub silent: Vec<Silent>,
    /// What is under way, the oldest first.
    pub operations: Vec<UnderWay>,
    /// Calls that wait for paths that users name.
    pub user_paths: usize,
    /// Who is told what happens.
    pub readers: Readers,
}

impl Pods {
    /// What the daemon is doing.
    pub fn report(&self) -> Report {
        let sandboxes = self.sandboxes();
        Report {
            sandboxes: count(&SANDBOX_STATES, sandboxes.iter().map(|one| sandbox_state(one))),
            containers: count(
                &CONTAINER_STATES,
                self.containers().iter().map(|one| container_state(one)),
            ),
            silent: sandboxes.iter().filter_map(|sandbox| silent(sandbox)).collect(),
            operations: self.operations().list(),
            user_paths: self.user_paths.taken(),
            readers: self.events.readers(),
        }
    }

    /// The process ids of the monitors of all pods that have one.
    pub fn monitor_pids(&self) -> Vec<u32> {
        let sandboxes = self.sandboxes();
        let alive = sandboxes.iter().filter(|one| one.record().phase != SandboxPhase::NotReady);
        alive.filter_map(|sandbox| sandbox.monitor_pid()).collect()
    }
}

fn count(states: &[&'static str], of: impl Iterator<Item = &'static str>) -> Counts {
    let mut counts: Counts = states.iter().map(|state| (*state, 0)).collect();
    of.for_each(|state| *counts.entry(state).or_default() += 1);
    counts
}

fn sandbox_state(sandbox: &Sandbox) -> &'static str {
    let phase = sandbox.record().phase;
    match (phase, sandbox.trouble()) {
        (SandboxPhase::Creating, _) => "creating",
        (SandboxPhase::Ready, None) => "ready",
        (SandboxPhase::Ready, Some(_)) => "silent",
        (SandboxPhase::NotReady, _) => "not ready",
    }
}

fn container_state(container: &Container) -> &'static str {
    match container.record().phase {
        ContainerPhase::Created => "created",
        ContainerPhase::Running { .. } => "running",
        ContainerPhase::Exited { .. } => "exited",
    }
}

fn silent(sandbox: &Sandbox) -> Option<Silent> {
    let trouble = sandbox.trouble()?;
    Some(Silent {
        id: sandbox.id.to_string(),
        stage: trouble.stage,
        words: trouble.words,
        age: trouble.since.elapsed(),
    })
}

impl Report {
    /// In words for the log.
    pub fn lines(&self) -> Vec<String> {
        let counts = |what: &str, counts: &Counts| {
            let states = counts.iter().map(|(state, count)| format!("{count} {what} {state}"));
            states.collect::<Vec<_>>().join(", ")
        };
        let mut lines = vec![
            counts("sandboxes", &self.sandboxes),
            counts("containers", &self.containers),
            format!("{} calls wait for paths of users", self.user_paths),
            format!(
                "{} subscribers of events, the slowest {} events behind",
                self.readers.count, self.readers.behind
            ),
        ];
        lines.extend(self.silent.iter().map(|silent| {
            format!(
                "sandbox {} does not answer for {} s ({}: {})",
                silent.id,
                silent.age.as_secs(),
                silent.stage,
                silent.words
            )
        }));
        lines.extend(self.operations.iter().map(line));
        lines
    }
}

fn line(operation: &UnderWay) -> String {
    let UnderWay { name, what, id, age, stage, stage_age, is_stuck, kernel } = operation;
    let stuck = if *is_stuck { ", stuck" } else { "" };
    let kernel = kernel.as_ref().map(|words| format!(" ({words})")).unwrap_or_default();
    format!(
        "{name} of {what} {id} is under way for {} s, {stage} for {} s{stuck}{kernel}",
        age.as_secs(),
        stage_age.as_secs(),
    )
}
