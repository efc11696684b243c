//! What the daemon asks for.

use std::{
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use oci_spec::runtime::LinuxResources;
use prost::Message as _;
use rustix::process::Signal;

use super::{DONE, Outcome, Server};
use crate::{
    monitor::{
        MAX_MESSAGE,
        container::{Caller, Container, Phase},
        pod::{self, Pod},
        record::ExitRecord,
        sources::{Meaning, Token},
        v1::{self, reply::Result as Answer, request::Call},
    },
    runtime::error::{During, Error},
    sys::socket,
};

impl Server {
    pub(super) fn serve(&mut self, connection: Token) {
        let Some(fd) = self.sources.fd(connection) else { return };
        self.buffer.resize(MAX_MESSAGE, 0);
        let request = match socket::receive(fd, &mut self.buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) | Ok((0, _)) => {
                return self.disconnect(connection);
            }
            Ok((length, fds)) => v1::Request::decode(&self.buffer[..length]).map(|r| (r, fds)),
        };
        // Requests are rare and their buffer is a tenth of this process.
        self.buffer = Vec::new();
        let Ok((request, fds)) = request else {
            return self.disconnect(connection);
        };
        let caller = Caller { connection, request: request.id };
        match self.call(request.call, fds, caller) {
            Ok(Outcome::Later) => {}
            Ok(Outcome::Now(answer)) => self.answer(caller, answer, &[]),
            Err(error) => self.fail(caller, &error),
        }
    }

    pub(super) fn call(
        &mut self,
        call: Option<Call>,
        fds: Vec<OwnedFd>,
        caller: Caller,
    ) -> Result<Outcome, Error> {
        match call {
            Some(Call::Setup(setup)) => {
                self.pod = Some(Pod::set_up(&self.proof, &setup, self.prepared)?);
                Ok(DONE)
            }
            Some(Call::Prepare(prepare)) => {
                let flags = pod::namespaces(prepare.network, prepare.ipc, prepare.uts);
                pod::make_namespaces(flags & !self.prepared)?;
                self.prepared |= flags;
                Ok(DONE)
            }
            Some(Call::State(_)) => Ok(Outcome::Now(Answer::States(self.states()))),
            Some(Call::Start(request)) => self.start(request, fds, caller),
            Some(Call::Exec(request)) => self.exec(request, fds, caller),
            Some(Call::Attach(request)) => self.attach(&request, fds, caller),
            Some(Call::CloseInput(request)) => {
                self.container(&request.container)?.stdin = None;
                Ok(DONE)
            }
            Some(Call::Stop(request)) => self.stop(&request),
            Some(Call::ReopenLog(request)) => {
                if let Some(log) = &mut self.container(&request.container)?.log {
                    log.reopen().during("reopen", "log file")?;
                }
                Ok(DONE)
            }
            Some(Call::Update(request)) => {
                let resources = parse_resources(&request.resources)?;
                self.container(&request.container)?.cgroup.apply(&resources)?;
                Ok(DONE)
            }
            Some(Call::Delete(request)) => self.delete(&request.container),
            Some(Call::KillExec(request)) => {
                if let Some(exec) = self.execs.get(&request.exec) {
                    // On v1 it may not have joined its cgroup yet.
                    let _ = rustix::process::kill_process(exec.pid, Signal::KILL);
                    exec.cgroup.kill()?;
                }
                Ok(DONE)
            }
            Some(Call::Shutdown(_)) => self.shut_down(),
            None => Err(Error::spec(
                "request",
                "this monitor is older than the daemon and does not know it; restart the pod",
            )),
        }
    }

    pub(super) fn container(&mut self, id: &str) -> Result<&mut Container, Error> {
        self.containers.get_mut(id).ok_or_else(|| Error::Child {
            kind: crate::kind::Kind::NotFound,
            message: format!("container {id} does not run in this pod"),
        })
    }

    pub(super) fn states(&self) -> v1::States {
        let init = self.pod.as_ref().and_then(|pod| pod.init.as_ref());
        v1::States {
            containers: self.containers.iter().map(|(id, c)| c.state(id)).collect(),
            init_pid: init.map_or(0, |init| init.pid.as_raw_nonzero().get()),
        }
    }

    pub(super) fn stop(&mut self, request: &v1::Stop) -> Result<Outcome, Error> {
        let container = self.container(&request.container)?;
        if matches!(container.phase, Phase::Exited { .. }) {
            return Ok(DONE);
        }
        let deadline = Instant::now().checked_add(Duration::from_millis(request.timeout));
        match (container.deadline, deadline) {
            // Being stopped already: the signal is not sent twice.
            (Some(earlier), Some(new)) => container.deadline = Some(earlier.min(new)),
            (Some(_), None) => {}
            (None, new) => {
                container.deadline = new;
                if request.timeout > 0 {
                    container.signal(request.signal)?;
                }
            }
        }
        self.end_overdue();
        Ok(DONE)
    }

    pub(super) fn end_overdue(&mut self) {
        let now = Instant::now();
        for container in self.containers.values_mut() {
            if container.deadline.is_some_and(|deadline| deadline <= now) {
                // Those that do not end now are in the kernel's hands. A process that forks
                // faster than v1 can kill is met again in a moment.
                let _ = container.kill();
                let again = now.checked_add(Duration::from_millis(500));
                let ended = matches!(container.phase, Phase::Exited { .. });
                container.deadline = again.filter(|_| !ended);
            }
        }
    }

    pub(super) fn delete(&mut self, id: &str) -> Result<Outcome, Error> {
        let Some(container) = self.containers.get(id) else { return Ok(DONE) };
        if !matches!(container.phase, Phase::Exited { .. }) {
            return Err(Error::Child {
                kind: crate::kind::Kind::FailedPrecondition,
                message: format!("container {id} has not ended"),
            });
        }
        // Processes of execs, and in a shared PID namespace others, can be left.
        if !container.cgroup.is_empty() {
            container.cgroup.kill()?;
        }
        container.cgroup.remove()?;
        if let Some(container) = self.containers.remove(id) {
            let readers = container.readers.iter().map(|reader| reader.pipe);
            for token in container.outputs.into_iter().chain(readers) {
                self.sources.remove(token);
            }
        }
        if let Some(pod) = &self.pod {
            ExitRecord::remove(&pod.directory, id);
        }
        Ok(DONE)
    }

    pub(super) fn shut_down(&mut self) -> Result<Outcome, Error> {
        for container in self.containers.values() {
            container.cgroup.kill()?;
        }
        self.reap_all_within(Duration::from_secs(10));
        for container in self.containers.values() {
            container.cgroup.remove()?;
        }
        if let Some(pod) = &self.pod {
            pod.tear_down()?;
        }
        self.over = true;
        Ok(DONE)
    }

    /// Waits for killed processes, whose cgroups cannot be removed before.
    pub(super) fn reap_all_within(&mut self, limit: Duration) {
        let end = Instant::now() + limit;
        while self.containers.values().any(|c| !c.cgroup.is_empty()) && Instant::now() < end {
            let signals = self.sources.find(&Meaning::Signals);
            if let Some(signals) = signals {
                self.reap(signals);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

pub(super) fn parse_resources(json: &[u8]) -> Result<LinuxResources, Error> {
    if json.is_empty() {
        return Ok(LinuxResources::default());
    }
    serde_json::from_slice(json)
        .map_err(|error| Error::spec("linux.resources", format!("does not parse: {error}")))
}
