//! What the daemon is doing, in words for a person.

use std::{collections::BTreeMap, time::Duration};

use super::{ContainerPhase, Pods, SandboxPhase};

impl Pods {
    /// How many pods and containers are in which state, and which calls are at which step for
    /// how long.
    pub fn report(&self) -> Vec<String> {
        let (sandboxes, containers) = (self.sandboxes(), self.containers());
        let mut states: BTreeMap<String, usize> = BTreeMap::new();
        for sandbox in &sandboxes {
            let state = match (sandbox.record().phase, sandbox.trouble()) {
                (SandboxPhase::Creating, _) => "sandboxes being created",
                (SandboxPhase::Ready, None) => "sandboxes ready",
                (SandboxPhase::Ready, Some(_)) => "sandboxes that do not answer",
                (SandboxPhase::NotReady, _) => "sandboxes not ready",
            };
            *states.entry(state.to_owned()).or_default() += 1;
        }
        for container in &containers {
            let state = match container.record().phase {
                ContainerPhase::Created => "containers created",
                ContainerPhase::Running { .. } => "containers running",
                ContainerPhase::Exited { .. } => "containers exited",
            };
            *states.entry(state.to_owned()).or_default() += 1;
        }
        let mut lines: Vec<String> =
            states.into_iter().map(|(state, count)| format!("{count} {state}")).collect();
        lines.push(format!("{} calls wait for paths of users", self.user_paths.taken()));
        for sandbox in &sandboxes {
            if let Some(trouble) = sandbox.trouble() {
                let seconds = trouble.since.elapsed().as_secs();
                lines.push(format!(
                    "sandbox {} does not answer for {seconds} s ({}: {})",
                    sandbox.id, trouble.stage, trouble.words
                ));
            }
            lines.extend(at("sandbox", sandbox.id.as_str(), sandbox.stage.current()));
        }
        for container in &containers {
            lines.extend(at("container", container.id.as_str(), container.stage.current()));
        }
        for (what, keys) in [
            ("RunPodSandbox", in_words(self.runs.under_way())),
            ("CreateContainer", in_words(self.creations.under_way())),
            ("StopPodSandbox", in_words(self.stops.under_way())),
            ("RemovePodSandbox", in_words(self.sandbox_removals.under_way())),
            ("RemoveContainer", in_words(self.removals.under_way())),
        ] {
            for (key, age) in keys {
                lines.push(format!("{what} {key} is under way for {} s", age.as_secs()));
            }
        }
        lines
    }
}

fn in_words(tasks: Vec<(impl std::fmt::Display, Duration)>) -> Vec<(String, Duration)> {
    tasks.into_iter().map(|(key, age)| (key.to_string(), age)).collect()
}

fn at(what: &str, id: &str, stage: Option<(&'static str, Duration)>) -> Option<String> {
    let (name, age) = stage?;
    Some(format!("{what} {id}: {name} for {} s", age.as_secs()))
}
