//! What becomes of children: their reports before their program, and their ends.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

use super::{Server, complain, timers::too_late};
use crate::{
    monitor::{
        container::Phase,
        exec::LeftBehind,
        record::ExitRecord,
        sources::{Meaning, Token},
        v1::{self, message::Content, reply::Result as Answer},
    },
    runtime::{
        error::Error,
        report::{self, Report},
    },
    sys::signal,
};

impl Server {
    pub(super) fn container_report(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Phase::Starting { caller, report: token, ready, failure, ended } = &mut container.phase
        else {
            return;
        };
        let (caller, token) = (*caller, *token);
        loop {
            let Some(socket) = self.sources.fd(token) else { return };
            match report::receive(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(Report::Ready) => *ready = true,
                Ok(Report::Failed(error)) => *failure = Some(error),
                Ok(Report::Terminal(master)) => {
                    let meaning = Meaning::Output(id.to_owned(), 0);
                    let added = rustix::io::ioctl_fionbio(&master, true)
                        .map_err(io::Error::from)
                        .and_then(|()| self.sources.add(master, meaning));
                    match added {
                        Ok(output) => container.outputs.push(output),
                        Err(source) => {
                            *failure = Some(Error::System {
                                operation: "watch",
                                object: "terminal".to_owned(),
                                source,
                            });
                        }
                    }
                }
                Ok(Report::End) | Err(_) => break,
            }
        }
        self.sources.remove(token);
        let ended = ended.take();
        if !*ready || failure.is_some() {
            // The end of the process brings the answer.
            if let Some((exit_code, _)) = ended {
                self.start_failed(id, exit_code);
            }
            return;
        }
        let started_at = now();
        container.phase = Phase::Running { started_at };
        if container.killed_at.is_none() {
            container.deadline = None;
        }
        let pid = container.pid.as_raw_nonzero().get();
        if let Some(caller) = caller {
            self.answer(caller, Answer::Started(v1::Started { pid, started_at }), &[]);
        }
        if let Some((exit_code, was_killed)) = ended {
            self.container_ended(id, exit_code, was_killed);
        }
    }

    pub(super) fn exec_report(&mut self, id: u64) {
        let Some(exec) = self.execs.get_mut(&id) else { return };
        let Some(token) = exec.report else { return };
        loop {
            let Some(socket) = self.sources.fd(token) else { return };
            match report::receive(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(Report::Ready) => exec.ready = true,
                Ok(Report::Failed(error)) => exec.failure = Some(error),
                Ok(Report::Terminal(master)) => exec.terminal = Some(master),
                Ok(Report::End) | Err(_) => break,
            }
        }
        exec.report = None;
        self.sources.remove(token);
        if !exec.ready || exec.failure.is_some() {
            return;
        }
        if exec.killed_at.is_none() {
            exec.deadline = exec.timeout;
        }
        let started = v1::Started { pid: exec.pid.as_raw_nonzero().get(), started_at: now() };
        let (caller, terminal) = (exec.caller.take(), exec.terminal.take());
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
    }

    pub(super) fn child_ended(&mut self, pid: Pid, status: WaitStatus) {
        let exit_code = exit_code(status);
        if let Some(id) = self.execs.iter().find(|(_, e)| e.pid == pid).map(|(id, _)| *id) {
            self.exec_ended(id, exit_code);
        } else if let Some(id) =
            self.containers.iter().find(|(_, c)| c.pid == pid).map(|(id, _)| id.clone())
        {
            let was_killed = status.terminating_signal() == Some(libc::SIGKILL);
            self.container_ended(&id, exit_code, was_killed);
        } else if let Some(pod) = &mut self.pod
            && pod.init.as_ref().is_some_and(|init| init.pid == pid)
        {
            pod.init_exited = true;
            self.tell(Content::PodInitExited(v1::PodInitExited {}));
        }
        // Any other is an orphan of a container in the host's PID namespace.
    }

    pub(super) fn exec_ended(&mut self, id: u64, exit_code: i32) {
        self.exec_report(id);
        let Some(exec) = self.execs.remove(&id) else { return };
        if let Some(report) = exec.report {
            self.sources.remove(report);
        }
        let timed_out = exec.timed_out;
        if exec.ready && exec.failure.is_none() {
            self.tell(Content::ExecExited(v1::ExecExited { exec: id, exit_code, timed_out }));
        } else if let Some(caller) = exec.caller {
            let error = match exec.failure {
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
        self.container_report(id);
        let Some(container) = self.containers.get_mut(id) else { return };
        if let Phase::Starting { failure, ready, report, ended, .. } = &mut container.phase {
            if *ready && failure.is_none() && self.sources.fd(*report).is_some() {
                // Its program has run, and somebody reports still: a hook after the start.
                *ended = Some((exit_code, was_killed));
                return;
            }
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
        };
        container.phase = Phase::Exited { started_at, exit: exit.clone() };
        self.drain(id);
        self.end_readers(id, |_| true);
        if let Some(container) = self.containers.get_mut(id) {
            container.let_go();
        }
        self.record(id, &exit);
        self.tell(Content::ContainerExited(exit));
    }

    /// A start has come to nothing, and the process has ended.
    pub(super) fn start_failed(&mut self, id: &str, exit_code: i32) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Phase::Starting { caller, failure, report, ready, .. } = &mut container.phase else {
            return;
        };
        let (caller, report) = (*caller, *report);
        let error = failure.take().unwrap_or_else(|| killed_on_its_way(id, exit_code));
        if *ready {
            // Its program may have started others before a hook after the start failed.
            let _ = container.cgroup.kill();
        }
        self.sources.remove(report);
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

fn killed_on_its_way(container: &str, exit_code: i32) -> Error {
    let hint = match exit_code {
        KILLED => "its memory or process limit may be too low",
        // The kernel's SIGSYS, or what is left to a process that may not even end.
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
