//! The life of a pod: its init containers one after the other, its containers side by side, and
//! the end of all.

use std::{sync::Arc, time::Instant};

use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    life::{Life, Progress},
    say::Speaker,
    shared::Shared,
};
use crate::play::Container;

/// A container that lives, as its pod sees it.
struct Running {
    ending: CancellationToken,
    progress: watch::Receiver<Progress>,
    task: JoinHandle<i32>,
}

impl Running {
    /// Its last exit code. A life that panicked has failed.
    async fn end(&mut self) -> i32 {
        (&mut self.task).await.unwrap_or(1)
    }

    /// Waits until it has come so far, or has ended before.
    async fn reach(&mut self, progress: Progress) -> Option<i32> {
        let reached = async {
            if self.progress.wait_for(|now| *now >= progress).await.is_err() {
                // It has ended; so says the task.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = reached => None,
            code = &mut self.task => Some(code.unwrap_or(1)),
        }
    }
}

/// Runs the containers of a pod until all have ended, or it is to end. The exit code is that of
/// the first that failed. `running` is told once they run.
pub(super) async fn run(shared: &Arc<Shared>, running: impl FnOnce()) -> i32 {
    let mut sidecars = Vec::new();
    let deadline = async {
        let Some(deadline) = shared.plan.deadline else { return std::future::pending().await };
        tokio::time::sleep(deadline).await;
        shared.say.warn("the pod is over its activeDeadlineSeconds");
        shared.fail(1);
        std::future::pending().await
    };
    let code = tokio::select! {
        code = live(shared, &mut sidecars, running) => code,
        code = deadline => code,
    };
    shared.end.get_or_init(|| Instant::now() + shared.plan.grace);
    // In the reverse order of their starts.
    for mut sidecar in sidecars.into_iter().rev() {
        sidecar.ending.cancel();
        sidecar.end().await;
    }
    shared.failure.get().copied().unwrap_or(code)
}

async fn live(shared: &Arc<Shared>, sidecars: &mut Vec<Running>, running: impl FnOnce()) -> i32 {
    let ending = &shared.ending;
    let mut number = 0;
    for spec in &shared.plan.init {
        let mut one = launch(shared, spec, number);
        number += 1;
        if spec.is_sidecar {
            let reached = tokio::select! {
                ended = one.reach(Progress::Started) => ended,
                () = ending.cancelled() => None,
            };
            match reached {
                Some(code) => return code.max(1),
                None => sidecars.push(one),
            }
        } else {
            let code = end_or_stop(shared, &mut one).await;
            if code != 0 && !ending.is_cancelled() {
                shared.say.warn(&format!("{} failed: the pod does not run", spec.name));
                return code;
            }
        }
        if ending.is_cancelled() {
            return 0;
        }
    }
    let mut all: Vec<Running> = Vec::new();
    for spec in &shared.plan.containers {
        all.push(launch(shared, spec, number));
        number += 1;
    }
    let mut codes: Vec<Option<i32>> = Vec::new();
    for one in &mut all {
        tokio::select! {
            code = one.reach(Progress::Runs) => codes.push(code),
            () = ending.cancelled() => codes.push(None),
        }
    }
    running();
    let mut first_failure = 0;
    for (one, known) in all.iter_mut().zip(codes) {
        let code = match known {
            Some(code) => code,
            None => tokio::select! {
                code = one.end() => code,
                () = ending.cancelled() => break,
            },
        };
        if first_failure == 0 {
            first_failure = code;
        }
    }
    if !ending.is_cancelled() {
        return first_failure;
    }
    shared.end.get_or_init(|| Instant::now() + shared.plan.grace);
    all.iter().for_each(|one| one.ending.cancel());
    for one in all.iter_mut().filter(|one| !one.task.is_finished()) {
        one.end().await;
    }
    0
}

async fn end_or_stop(shared: &Arc<Shared>, one: &mut Running) -> i32 {
    tokio::select! {
        code = one.end() => code,
        () = shared.ending.cancelled() => {
            shared.end.get_or_init(|| Instant::now() + shared.plan.grace);
            one.ending.cancel();
            one.end().await
        }
    }
}

fn launch(shared: &Arc<Shared>, spec: &Container, number: usize) -> Running {
    let (sender, progress) = watch::channel(Progress::Waits);
    let ending = CancellationToken::new();
    let life = Life {
        shared: Arc::clone(shared),
        spec: spec.clone(),
        speaker: Speaker { name: spec.name.clone(), number },
        ending: ending.clone(),
        progress: sender,
    };
    Running { ending, progress, task: tokio::spawn(life.run()) }
}
