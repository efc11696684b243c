//! The life of one container: started, looked after, started again, ended.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{ask::ask, backoff::Backoff, error::Error, say::Speaker, shared::Shared, volumes};
use crate::{
    cli::{node::logs::Log, text::duration},
    cri::v1::{
        ContainerStatus, CreateContainerRequest, Image, PodSandboxState, PodSandboxStatusRequest,
        RemoveContainerRequest, StartContainerRequest, StopContainerRequest,
    },
    play::{Container, Probe, Restart},
};

/// What a container has for its end at least, whatever was done before (as kubelets have it).
const LEAST_GRACE: Duration = Duration::from_secs(2);

/// How long what a container has said last may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Before a daemon that went away is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// The exit code of one that could not be started.
const NOT_STARTED: i32 = 128;

/// How far a container has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    /// It is being made, or waits to be.
    Waits,
    /// Its program runs.
    Runs,
    /// It has started, as its startup probe says.
    Started,
}

/// A container, and all attempts to run it.
pub(super) struct Life {
    pub shared: Arc<Shared>,
    pub spec: Container,
    pub speaker: Speaker,
    /// It is to end.
    pub ending: CancellationToken,
    pub progress: watch::Sender<Progress>,
}

impl Life {
    /// Runs it until it is not started again; its last exit code.
    pub(super) async fn run(self) -> i32 {
        let name = self.spec.name.clone();
        let say = &self.shared.say;
        let mut backoff = Backoff::default();
        // The ids of the last two attempts.
        let mut kept: Vec<String> = Vec::new();
        for attempt in 0.. {
            let began = Instant::now();
            let code = match self.once(attempt, &mut kept).await {
                Ok(None) => return 0,
                Ok(Some(status)) => {
                    let code = status.exit_code;
                    let why = match status.reason.as_str() {
                        "" | "Completed" | "Error" => String::new(),
                        reason => format!(" ({reason})"),
                    };
                    let message = status.message.trim();
                    let message =
                        if message.is_empty() { String::new() } else { format!(": {message}") };
                    let words = format!("{name} has ended with {code}{why}{message}");
                    if code == 0 || self.ending.is_cancelled() {
                        say.note(&words)
                    } else {
                        say.warn(&words)
                    }
                    code
                }
                Err(error) => {
                    say.warn(&format!("{name} cannot be started: {}", crate::kind::chain(&error)));
                    if attempt == 0 && matches!(error, Error::Image { .. }) {
                        // Whoever sits before it can mend the name, and will not wait for that.
                        self.shared.fail(NOT_STARTED);
                        return NOT_STARTED;
                    }
                    NOT_STARTED
                }
            };
            let again = match self.spec.restart {
                Restart::Always => true,
                Restart::OnFailure => code != 0,
                Restart::Never => false,
            };
            if !again || self.ending.is_cancelled() || !self.has_sandbox().await {
                return code;
            }
            let wait = backoff.after(began.elapsed());
            if !wait.is_zero() {
                let wait = duration(wait.as_secs());
                say.note(&format!("{name} is started again in {wait} (back-off)"));
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.ending.cancelled() => return code,
            }
        }
        NOT_STARTED
    }

    /// Somebody else may have ended the pod.
    async fn has_sandbox(&self) -> bool {
        let pod_sandbox_id = self.shared.sandbox.clone();
        let request = PodSandboxStatusRequest { pod_sandbox_id, verbose: false };
        let ready = i32::from(PodSandboxState::SandboxReady);
        match self.shared.pods.clone().pod_sandbox_status(request).await {
            Ok(answer) => answer.into_inner().status.is_some_and(|status| status.state == ready),
            // A daemon that does not answer now has not ended the pod.
            Err(status) => status.code() != tonic::Code::NotFound,
        }
    }

    /// One attempt, from its image to its end; none where the pod ends before it is made.
    async fn once(
        &self,
        attempt: u32,
        kept: &mut Vec<String>,
    ) -> Result<Option<ContainerStatus>, Error> {
        let shared = &self.shared;
        let sandbox = &shared.plan.sandbox;
        let image = tokio::select! {
            image = shared.images.ensure(&self.spec.image, self.spec.pull, sandbox, &shared.say) => image?,
            () = self.ending.cancelled() => return Ok(None),
        };
        self.check_user(&image)?;
        self.spec.sub_paths.iter().try_for_each(volumes::make_part)?;
        let id = self.create(attempt).await?;
        kept.push(id.clone());
        if kept.len() > 2 {
            // What is older than the last one before is of no use to anybody.
            let request = RemoveContainerRequest { container_id: kept.remove(0) };
            let _ = shared.pods.clone().remove_container(request).await;
        }
        let request = StartContainerRequest { container_id: id.clone() };
        let started = shared.pods.clone().start_container(request).await;
        started.map_err(Error::daemon("start the container"))?;
        let again = if attempt == 0 { "" } else { " again" };
        shared.say.note(&format!("{} is started{again}", self.spec.name));
        self.progress.send_replace(Progress::Runs);
        let over = CancellationToken::new();
        let _guard = over.clone().drop_guard();
        let log = Path::new(&sandbox.log_directory).join(log_path(&self.spec.name, attempt));
        let (say, speaker) = (Arc::clone(shared), self.speaker.clone());
        let reading =
            tokio::spawn(Log::new(&log).follow(over.clone().cancelled_owned(), move |line| {
                say.say.line(&speaker, line);
                true
            }));
        let status = self.look_after(&id).await;
        over.cancel();
        if let Ok(Ok(Err(error))) = tokio::time::timeout(LAST_WORDS, reading).await {
            let words = format!("the log of {} cannot be read: {error}", self.spec.name);
            shared.say.warn(&words);
        }
        Ok(Some(status))
    }

    /// Whoever must not be root is none by what the image says, or by what the pod says.
    fn check_user(&self, image: &Image) -> Result<(), Error> {
        let linux = self.spec.config.linux.clone().unwrap_or_default();
        let given = linux.security_context.unwrap_or_default().run_as_user.map(|user| user.value);
        let of_image = image.uid.as_ref().map(|uid| uid.value);
        let refused = |reason: &str| {
            Err(Error::Image { image: self.spec.image.clone(), reason: reason.to_owned() })
        };
        if !self.spec.non_root {
            return Ok(());
        }
        match (given.or(of_image), image.username.as_str()) {
            (Some(0), _) => refused("runAsNonRoot, and the user would be root; set runAsUser"),
            (None, "") => refused("runAsNonRoot, and the image's user is root; set runAsUser"),
            (None, _) => refused(
                "runAsNonRoot, and the image names its user, so that nobody knows its number; set \
                 runAsUser",
            ),
            (Some(_), _) => Ok(()),
        }
    }

    async fn create(&self, attempt: u32) -> Result<String, Error> {
        let mut config = self.spec.config.clone();
        config.metadata.get_or_insert_default().attempt = attempt;
        config.log_path = log_path(&self.spec.name, attempt);
        let request = CreateContainerRequest {
            pod_sandbox_id: self.shared.sandbox.clone(),
            config: Some(config),
            sandbox_config: Some(self.shared.plan.sandbox.clone()),
        };
        let made = self.shared.pods.clone().create_container(request).await;
        Ok(made.map_err(Error::daemon("make the container"))?.into_inner().container_id)
    }

    /// Waits for its end, which comes by itself, for a probe, or since the pod ends.
    async fn look_after(&self, id: &str) -> ContainerStatus {
        let shared = &self.shared;
        let end = shared.events.end_of(&shared.pods, id);
        let mut end = std::pin::pin!(end);
        let status = tokio::select! {
            status = &mut end => status,
            (reason, grace) = self.watch(id) => {
                shared.say.warn(&format!("{} is ended: {reason}", self.spec.name));
                self.stop(id, grace).await;
                end.await
            }
            () = self.ending.cancelled() => {
                self.stop(id, None).await;
                end.await
            }
        };
        // One that is gone was removed by somebody else.
        status.unwrap_or_else(|| ContainerStatus { exit_code: 137, ..ContainerStatus::default() })
    }

    /// What is done after the start, and the probes. Returns why the container must end, and
    /// how long that may take.
    async fn watch(&self, id: &str) -> (String, Option<Duration>) {
        let shared = &self.shared;
        if let Some(action) = &self.spec.post_start {
            let done = ask(action, FOREVER, &shared.pods, id, &shared.address).await;
            if let Err(reason) = done {
                return (format!("its postStart hook failed: {reason}"), None);
            }
        }
        if let Some(probe) = &self.spec.startup {
            let (is_well, reason) = self.probe(id, probe, probe.delay, Until::Either).await;
            if !is_well {
                return (format!("its startup probe failed: {reason}"), probe.grace);
            }
        }
        self.progress.send_replace(Progress::Started);
        tokio::select! {
            () = self.tell_readiness(id) => (String::new(), None),
            failed = self.watch_liveness(id) => failed,
        }
    }

    /// Why it must end, once that is so.
    async fn watch_liveness(&self, id: &str) -> (String, Option<Duration>) {
        let Some(probe) = &self.spec.liveness else { return std::future::pending().await };
        let (_, reason) = self.probe(id, probe, probe.delay, Until::Bad).await;
        (format!("its liveness probe failed: {reason}"), probe.grace)
    }

    /// Never returns.
    async fn tell_readiness(&self, id: &str) {
        let Some(probe) = &self.spec.readiness else { return std::future::pending().await };
        let name = &self.spec.name;
        let mut delay = probe.delay;
        loop {
            self.probe(id, probe, delay, Until::Good).await;
            self.shared.say.note(&format!("{name} is ready"));
            delay = probe.period;
            let (_, reason) = self.probe(id, probe, delay, Until::Bad).await;
            self.shared.say.warn(&format!("{name} is not ready: {reason}"));
        }
    }

    /// Asks until as many answers in a row as count are as awaited; whether they are good, and
    /// what was wrong with the last bad one.
    async fn probe(
        &self,
        id: &str,
        probe: &Probe,
        delay: Duration,
        until: Until,
    ) -> (bool, String) {
        let shared = &self.shared;
        let (mut good, mut bad, mut reason) = (0, 0, String::new());
        let mut pause = delay;
        loop {
            tokio::time::sleep(pause).await;
            pause = probe.period;
            let answer = ask(&probe.action, probe.timeout, &shared.pods, id, &shared.address).await;
            match answer {
                Ok(()) => (good, bad) = (good + 1, 0),
                Err(words) => {
                    (good, bad) = (0, bad + 1);
                    reason = words;
                }
            }
            if good >= probe.successes && until != Until::Bad {
                return (true, reason);
            }
            if bad >= probe.failures && until != Until::Good {
                return (false, reason);
            }
        }
    }

    /// Ends it: its hook first, then its signal, and both within the time that the pod has, or
    /// that its probe gives it.
    async fn stop(&self, id: &str, grace: Option<Duration>) {
        let shared = &self.shared;
        let own = || Instant::now() + grace.unwrap_or(shared.plan.grace);
        let deadline = shared.deadline().unwrap_or_else(own);
        let left = || deadline.saturating_duration_since(Instant::now());
        if let Some(action) = &self.spec.pre_stop {
            let done = tokio::select! {
                done = ask(action, left(), &shared.pods, id, &shared.address) => done,
                () = shared.hurry.cancelled() => Ok(()),
            };
            if let Err(reason) = done {
                shared
                    .say
                    .warn(&format!("the preStop hook of {} failed: {reason}", self.spec.name));
            }
        }
        let left =
            if shared.plan.grace.is_zero() { Duration::ZERO } else { left().max(LEAST_GRACE) };
        let stop = |seconds: u64| {
            let mut pods = shared.pods.clone();
            let timeout = i64::try_from(seconds).unwrap_or(i64::MAX);
            let request = StopContainerRequest { container_id: id.to_owned(), timeout };
            async move {
                loop {
                    match pods.stop_container(request.clone()).await {
                        // A daemon that starts anew knows the container.
                        Err(status) if status.code() == tonic::Code::Unavailable => {
                            tokio::time::sleep(PAUSE).await;
                        }
                        stopped => return stopped,
                    }
                }
            }
        };
        let stopped = tokio::select! {
            stopped = stop(left.as_secs()) => stopped,
            () = shared.hurry.cancelled() => stop(0).await,
        };
        if let Err(status) = stopped {
            let words = format!("{} does not end: {}", self.spec.name, status.message());
            shared.say.warn(&words);
        }
    }
}

/// Which answers are awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    Good,
    Bad,
    Either,
}

/// Longer than any hook may take; the end of the pod ends it.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Below the log directory of the pod, as kubelets name them.
fn log_path(name: &str, attempt: u32) -> String {
    format!("{name}/{attempt}.log")
}
