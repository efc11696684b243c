//! What becomes of children: their reports before their program, and their ends.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use rustix::process::{
    Pid, PidfdFlags, WaitId, WaitIdOptions, WaitOptions, WaitStatus, pidfd_open, wait, waitid,
};

use super::{Server, complain, timers::too_late};
use crate::{
    monitor::{
        container::{Container, Phase},
        exec::LeftBehind,
        record::ExitRecord,
        sources::{Meaning, Token},
        v1::{self, message::Content, reply::Result as Answer},
        way::{Heard, Maker, Way},
    },
    runtime::{
        error::{During, Error},
        report::{self, Report},
    },
    sys::signal,
};

impl Server {
    /// Takes in what has been reported of a process on its way.
    fn hear(&mut self, way: &mut Way, meaning: &Meaning, helper: Pid) -> Heard {
        let mut heard = Heard::default();
        while let Some(token) = way.report {
            let Some(socket) = self.sources.fd(token) else { break };
            let (report, sender) = match report::receive(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return heard,
                Ok((Report::End, _)) | Err(_) => {
                    self.sources.remove(token);
                    way.report = way.next.take();
                    continue;
                }
                Ok(report) => report,
            };
            // A helper loads the filter of the process that it makes then.
            let is_helper = sender.is_some() && sender == Some(heard.pid.unwrap_or(helper));
            let is_helpers = is_helper && matches!(report, Report::Listener(_));
            if !is_helpers && !self.is_believed(way, sender, &mut heard) {
                continue;
            }
            match report {
                Report::Ready => way.ready = true,
                Report::Failed(error) => way.failure = Some(error),
                Report::Terminal(master) => heard.terminal = Some(master),
                Report::Listener(listener) => heard.listener = Some(listener),
                Report::HandedOver(socket) => {
                    way.maker = Maker::Gone;
                    let added = self.watch(socket, meaning.clone());
                    way.next = added.map_err(|error| way.failure = Some(error)).ok();
                }
                Report::End => {}
            }
        }
        way.report = None;
        heard
    }

    /// Whether it is the process itself that reports, and who that is where it was not known
    /// yet: a child of this process, since nobody else can have become one.
    fn is_believed(&self, way: &mut Way, sender: Option<Pid>, heard: &mut Heard) -> bool {
        if way.maker != Maker::Gone {
            return true;
        }
        let Some(pid) = sender else { return false };
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let is_child = waitid(WaitId::Pid(pid), look).is_ok();
        if !is_child && self.just_ended != Some(pid) {
            return false;
        }
        heard.pid = Some(pid);
        way.maker = Maker::Itself;
        true
    }

    pub(super) fn container_report(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Phase::Starting(way) = &mut container.phase else { return };
        let mut way = std::mem::take(way);
        let helper = container.pid;
        let heard = self.hear(&mut way, &Meaning::ContainerReport(id.to_owned()), helper);
        if let Some(listener) = heard.listener {
            self.listen_for_refusals(id, listener);
        }
        let terminal = heard.terminal.map(|master| {
            rustix::io::ioctl_fionbio(&master, true).during("prepare", "terminal")?;
            self.watch(master, Meaning::Output(id.to_owned(), 0))
        });
        let Some(container) = self.containers.get_mut(id) else { return };
        match terminal {
            Some(Ok(output)) => container.outputs.push(output),
            Some(Err(error)) => way.failure = Some(error),
            None => {}
        }
        if let Some(pid) = heard.pid.filter(|&pid| pid != container.pid) {
            container.pid = pid;
            // One that has ended already is waited for all the same.
            container.pidfd = pidfd_open(pid, PidfdFlags::empty()).ok();
        }
        if way.is_lost() {
            way.failure = Some(killed_on_its_way(id, self.stranger));
            container.phase = Phase::Starting(way);
            let _ = container.cgroup.kill();
            return self.container_ended(id, 128, false);
        }
        way.look_at(container.pid);
        let has_arrived = way.has_arrived();
        let ended = way.ended.filter(|_| way.report.is_none());
        container.phase = Phase::Starting(way);
        // Where it has failed, the end of the process brings the answer.
        if has_arrived {
            self.container_started(id);
        }
        if let Some((exit_code, was_killed)) = ended {
            self.container_ended(id, exit_code, was_killed);
        }
    }

    fn container_started(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Phase::Starting(way) = &mut container.phase else { return };
        let Way { caller, report, .. } = std::mem::take(way);
        report.iter().for_each(|&token| drop(self.sources.remove(token)));
        let started_at = now();
        container.phase = Phase::Running { started_at };
        if container.killed_at.is_none() {
            container.deadline = None;
        }
        let pid = container.pid.as_raw_nonzero().get();
        if let Some(caller) = caller {
            self.answer(caller, Answer::Started(v1::Started { pid, started_at }), &[]);
        }
    }

    pub(super) fn exec_report(&mut self, id: u64) {
        let Some(exec) = self.execs.get_mut(&id) else { return };
        if exec.way.report.is_none() {
            return;
        }
        let mut way = std::mem::take(&mut exec.way);
        let (helper, container) = (exec.pid, exec.container.clone());
        let heard = self.hear(&mut way, &Meaning::ExecReport(id), helper);
        if let Some(listener) = heard.listener {
            self.listen_for_refusals(&container, listener);
        }
        let Some(exec) = self.execs.get_mut(&id) else { return };
        exec.pid = heard.pid.unwrap_or(exec.pid);
        exec.terminal = heard.terminal.or(exec.terminal.take());
        if way.is_lost() {
            way.failure = Some(killed_on_its_way(&exec.container, self.stranger));
            exec.way = way;
            let _ = exec.cgroup.kill();
            return self.exec_ended(id, 128);
        }
        way.look_at(exec.pid);
        exec.way = way;
        if exec.is_running() {
            self.exec_started(id);
        }
    }

    fn exec_started(&mut self, id: u64) {
        let Some(exec) = self.execs.get_mut(&id) else { return };
        if exec.killed_at.is_none() {
            exec.deadline = exec.timeout;
        }
        let started = v1::Started { pid: exec.pid.as_raw_nonzero().get(), started_at: now() };
        let (caller, terminal) = (exec.way.caller.take(), exec.terminal.take());
        let fds: Vec<BorrowedFd<'_>> = terminal.iter().map(AsFd::as_fd).collect();
        if let Some(caller) = caller {
            self.answer(caller, Answer::Started(started), &fds);
        }
    }

    pub(super) fn reap(&mut self, signals: Token) {
        if let Some(fd) = self.sources.fd(signals) {
            while signal::next_signal(fd).is_ok() {}
        }
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            self.child_ended(pid, status);
        }
        // A helper can end after the command that it has made.
        self.left_behind.retain(|left| !left.is_removed());
    }

    pub(super) fn child_ended(&mut self, pid: Pid, status: WaitStatus) {
        self.just_ended = Some(pid);
        // Its report may have to say first who it is.
        if !self.is_known(pid) {
            self.hear_all();
        }
        let exit_code = exit_code(status);
        if let Some(id) = self.exec_of(pid) {
            // The end of a helper is none of its exec, once that is left to another process.
            self.exec_report(id);
            if self.exec_of(pid) == Some(id) {
                // Its helper may not have ended yet.
                if self.execs.get(&id).is_some_and(|exec| exec.way.is_last_step()) {
                    self.exec_started(id);
                }
                self.exec_ended(id, exit_code);
            }
        } else if let Some(id) = self.container_of(pid) {
            self.container_report(&id);
            if self.container_of(pid).as_ref() == Some(&id) {
                let was_killed = status.terminating_signal() == Some(libc::SIGKILL);
                self.first_process_ended(&id, exit_code, was_killed);
            }
        } else if let Some(pod) = &mut self.pod
            && pod.init.as_ref().is_some_and(|init| init.pid == pid)
        {
            pod.init_exited = true;
            self.tell(Content::PodInitExited(v1::PodInitExited {}));
        } else if exit_code != 0 {
            // A process that was killed before it could say who it is, or an orphan of a
            // container in the host's PID namespace.
            self.stranger = exit_code;
        }
        self.just_ended = None;
    }

    fn first_process_ended(&mut self, id: &str, exit_code: i32, was_killed: bool) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if let Phase::Starting(way) = &mut container.phase
            && way.is_last_step()
        {
            if way.waits_for_runner() {
                way.ended = Some((exit_code, was_killed));
                return;
            }
            self.container_started(id);
        }
        self.container_ended(id, exit_code, was_killed);
    }

    fn exec_of(&self, pid: Pid) -> Option<u64> {
        self.execs.iter().find(|(_, exec)| exec.is_child(pid)).map(|(id, _)| *id)
    }

    fn container_of(&self, pid: Pid) -> Option<String> {
        let is_it = |container: &Container| container.is_child(pid);
        self.containers.iter().find(|(_, container)| is_it(container)).map(|(id, _)| id.clone())
    }

    fn is_known(&self, pid: Pid) -> bool {
        self.exec_of(pid).is_some() || self.container_of(pid).is_some()
    }

    /// Takes in the reports of all who are on their way.
    fn hear_all(&mut self) {
        let execs: Vec<u64> = self.execs.keys().copied().collect();
        execs.into_iter().for_each(|id| self.exec_report(id));
        let is_starting = |container: &Container| matches!(container.phase, Phase::Starting(_));
        let starting = self.containers.iter().filter(|(_, container)| is_starting(container));
        let starting: Vec<String> = starting.map(|(id, _)| id.clone()).collect();
        starting.iter().for_each(|id| self.container_report(id));
    }

    pub(super) fn exec_ended(&mut self, id: u64, exit_code: i32) {
        let Some(exec) = self.execs.remove(&id) else { return };
        let Way { caller, report, next, ready, failure, .. } = exec.way;
        report.iter().chain(&next).for_each(|&token| drop(self.sources.remove(token)));
        let timed_out = exec.timed_out;
        if ready && failure.is_none() {
            self.tell(Content::ExecExited(v1::ExecExited { exec: id, exit_code, timed_out }));
        } else if let Some(caller) = caller {
            let error = match failure {
                Some(failure) => failure,
                None if timed_out => too_late(&exec.container),
                None => killed_on_its_way(&exec.container, exit_code),
            };
            self.fail(caller, &error);
        }
        // What is left of one whose time was over ends as well.
        let kill_at = exec.killed_at.map(|_| Instant::now());
        let left = LeftBehind { cgroup: exec.cgroup, kill_at };
        if !left.is_removed() {
            self.left_behind.push(left);
        }
    }

    /// `was_killed` says that its first process was, by whomever.
    pub(super) fn container_ended(&mut self, id: &str, exit_code: i32, was_killed: bool) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if matches!(container.phase, Phase::Starting(_)) {
            return self.start_failed(id, exit_code);
        }
        let Phase::Running { started_at } = container.phase else { return };
        // Where that cannot be read, it is better killed in vain than left.
        if container.shares_pid_namespace && !container.cgroup.is_empty().unwrap_or(false) {
            // What is left of it in the shared namespace ends with it.
            let _ = container.cgroup.kill();
        }
        container.deadline = None;
        let oom_kills = container.cgroup.oom_kills().unwrap_or_else(|error| {
            complain(format_args!("container {id}: {}", error.full_message()));
            container.oom_kills_before
        });
        let oom_kills = oom_kills.saturating_sub(container.oom_kills_before);
        let exit = v1::ContainerExited {
            container: id.to_owned(),
            exit_code,
            finished_at: now(),
            oom_killed: oom_kills > 0,
            oom_kills,
            oom_killed_init: oom_kills > 0 && was_killed && container.killed_at.is_none(),
            stopped_for_refusal: container.stopped_for_refusal,
        };
        container.phase = Phase::Exited { started_at, exit: exit.clone() };
        self.drain(id);
        self.end_readers(id, |_| true);
        if let Some(container) = self.containers.get_mut(id) {
            container.let_go();
        }
        self.record(id, &exit);
        self.tell_last_refusals(id);
        self.tell(Content::ContainerExited(exit));
    }

    /// A start has come to nothing, and the process has ended.
    pub(super) fn start_failed(&mut self, id: &str, exit_code: i32) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Phase::Starting(way) = &mut container.phase else { return };
        let Way { caller, report, next, failure, ready, .. } = std::mem::take(way);
        let error = failure.unwrap_or_else(|| killed_on_its_way(id, exit_code));
        if ready {
            // Its program may have started others before a hook after the start failed.
            let _ = container.cgroup.kill();
        }
        report.iter().chain(&next).for_each(|&token| drop(self.sources.remove(token)));
        if let Some(container) = self.containers.remove(id) {
            container.outputs.iter().for_each(|&token| drop(self.sources.remove(token)));
            // Its one process has ended; a directory that stays is found by the daemon.
            let _ = container.cgroup.remove();
        }
        if let Some(pod) = &self.pod {
            ExitRecord::remove(&pod.directory, id);
        }
        if let Some(caller) = caller {
            self.fail(caller, &error);
        }
    }

    pub(super) fn record(&self, id: &str, exit: &v1::ContainerExited) {
        let Some(pod) = &self.pod else { return };
        if let Err(error) = ExitRecord::from(exit).write(&pod.directory, id) {
            complain(format_args!("cannot record the exit of container {id}: {error}"));
        }
    }
}

/// The status of a process that SIGKILL has ended, as the OOM killer does.
const KILLED: i32 = 128 + libc::SIGKILL;

/// The status of a process that its filter of system calls has ended.
const FILTERED: i32 = 128 + libc::SIGSYS;

fn killed_on_its_way(container: &str, exit_code: i32) -> Error {
    let hint = match exit_code {
        KILLED => "its memory or process limit may be too low",
        FILTERED => {
            "its seccomp profile kills it (SIGSYS) for executing its program; it has to allow \
             execve"
        }
        // What is left to a process that may not even end.
        _ => {
            "its seccomp profile has to allow execve, write and exit_group, which every program \
             needs to be started"
        }
    };
    let reason = format!(
        "a process of container {container} ended with status {exit_code} before its program \
         ran; {hint}"
    );
    Error::Child { kind: crate::kind::Kind::FailedPrecondition, message: reason }
}

/// 128 + n where signal n ended the process, as a shell says it.
fn exit_code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos() as i64)
}
