//! What becomes of children: their reports before their program, and their ends.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

use super::{Server, complain};
use crate::{
    monitor::{
        container::Phase,
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
        let Phase::Starting { caller, report: token, ready, failure } = &mut container.phase else {
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
        if !*ready || failure.is_some() {
            // The end of the process brings the answer.
            return;
        }
        let started_at = now();
        container.phase = Phase::Running { started_at };
        let pid = container.pid.as_raw_nonzero().get();
        self.answer(caller, Answer::Started(v1::Started { pid, started_at }), &[]);
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
        let started = v1::Started { pid: exec.pid.as_raw_nonzero().get(), started_at: now() };
        let (caller, terminal) = (exec.caller, exec.terminal.take());
        let fds: Vec<BorrowedFd<'_>> = terminal.iter().map(AsFd::as_fd).collect();
        self.answer(caller, Answer::Started(started), &fds);
    }

    pub(super) fn reap(&mut self, signals: Token) {
        if let Some(fd) = self.sources.fd(signals) {
            while signal::next_signal(fd).is_ok() {}
        }
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            self.child_ended(pid, exit_code(status));
        }
    }

    pub(super) fn child_ended(&mut self, pid: Pid, exit_code: i32) {
        if let Some(id) = self.execs.iter().find(|(_, e)| e.pid == pid).map(|(id, _)| *id) {
            self.exec_ended(id, exit_code);
        } else if let Some(id) =
            self.containers.iter().find(|(_, c)| c.pid == pid).map(|(id, _)| id.clone())
        {
            self.container_ended(&id, exit_code);
        }
        // Any other is an orphan of a container in the host's PID namespace.
    }

    pub(super) fn exec_ended(&mut self, id: u64, exit_code: i32) {
        self.exec_report(id);
        let Some(exec) = self.execs.remove(&id) else { return };
        if let Some(report) = exec.report {
            self.sources.remove(report);
        }
        if let Some(failure) = exec.failure {
            self.fail(exec.caller, &failure);
        } else if exec.ready {
            self.tell(Content::ExecExited(v1::ExecExited { exec: id, exit_code }));
        } else {
            self.fail(exec.caller, &killed_on_its_way(&exec.container, exit_code));
        }
        if exec.cgroup.is_empty() && exec.cgroup.remove().is_ok() {
            return;
        }
        self.left_behind.push(exec.cgroup);
    }

    pub(super) fn container_ended(&mut self, id: &str, exit_code: i32) {
        self.container_report(id);
        let Some(container) = self.containers.get_mut(id) else { return };
        if let Phase::Starting { caller, failure, report, .. } = &mut container.phase {
            let (caller, report) = (*caller, *report);
            let error = failure.take().unwrap_or_else(|| killed_on_its_way(id, exit_code));
            self.sources.remove(report);
            if let Some(container) = self.containers.remove(id) {
                container.outputs.iter().for_each(|&token| drop(self.sources.remove(token)));
                // Its one process has ended; a directory that stays is found by the daemon.
                let _ = container.cgroup.remove();
            }
            return self.fail(caller, &error);
        }
        let Phase::Running { started_at } = container.phase else { return };
        if container.shares_pid_namespace && !container.cgroup.is_empty() {
            // What is left of it in the shared namespace ends with it.
            let _ = container.cgroup.kill();
        }
        container.deadline = None;
        let oom_kills = container.cgroup.oom_kills();
        let exit = v1::ContainerExited {
            container: id.to_owned(),
            exit_code,
            finished_at: now(),
            oom_killed: oom_kills > container.oom_kills_before,
        };
        container.phase = Phase::Exited { started_at, exit: exit.clone() };
        self.drain(id);
        self.end_readers(id, |_| true);
        self.record(id, &exit);
        self.tell(Content::ContainerExited(exit));
    }

    pub(super) fn record(&self, id: &str, exit: &v1::ContainerExited) {
        let Some(pod) = &self.pod else { return };
        let record = ExitRecord {
            exit_code: exit.exit_code,
            finished_at: exit.finished_at,
            oom_killed: exit.oom_killed,
        };
        if let Err(error) = record.write(&pod.directory, id) {
            complain(format_args!("cannot record the exit of container {id}: {error}"));
        }
    }
}

fn killed_on_its_way(container: &str, exit_code: i32) -> Error {
    let reason = format!(
        "a process of container {container} ended with status {exit_code} before its program \
         ran; its memory or process limit may be too low"
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
