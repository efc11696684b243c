//! What the daemon asks for.

use std::{
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use oci_spec::runtime::LinuxResources;
use prost::Message as _;

use super::{DONE, Outcome, Server, timers::AGAIN};
use crate::{
    kind::Kind,
    monitor::{
        MAX_MESSAGE, PROTOCOL,
        container::{Caller, Container, Phase},
        envelope,
        pod::{self, Pod},
        record::ExitRecord,
        sources::Token,
        v1::{self, reply::Result as Answer, request::Call},
    },
    runtime::{
        error::{During, Error},
        rights,
    },
    sys::socket,
};

impl Server {
    pub(super) fn serve(&mut self, connection: Token) {
        let Some(fd) = self.sources.fd(connection) else { return };
        self.buffer.resize(MAX_MESSAGE, 0);
        let received = match socket::receive(fd, &mut self.buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) | Ok((0, _)) => return self.disconnect(connection),
            Ok((length, mut fds)) => {
                envelope::open::<v1::Request>(&self.buffer[..length], &mut fds).map(|r| (r, fds))
            }
        };
        // Requests are rare and their buffer is a tenth of this process.
        self.buffer = Vec::new();
        // Whoever sends what is no request gets no answer that it would understand.
        let Ok((request, fds)) = received else { return self.disconnect(connection) };
        self.trust(connection);
        let was_long = request.encoded_len() > MAX_MESSAGE;
        let caller = Caller { connection, request: request.id };
        match self.call(request.call, fds, caller) {
            Ok(Outcome::Later) => {}
            Ok(Outcome::Now(answer)) => self.answer(caller, answer, &[]),
            Err(error) => self.fail(caller, &error),
        }
        if was_long {
            crate::sys::exec::trim_heap();
        }
    }

    pub(super) fn call(
        &mut self,
        call: Option<Call>,
        fds: Vec<OwnedFd>,
        caller: Caller,
    ) -> Result<Outcome, Error> {
        match call {
            Some(Call::Setup(_)) if self.pod.is_some() => {
                Err(failed_precondition("the pod is set up already".to_owned()))
            }
            Some(Call::Start(_) | Call::StartExtended(_) | Call::Exec(_))
                if self.shutdown.is_some() =>
            {
                Err(failed_precondition("the pod is being ended".to_owned()))
            }
            Some(Call::Setup(setup)) => {
                self.pod = Some(Pod::set_up(&self.proof, &setup, self.prepared, fds)?);
                rights::lay_aside()?;
                Ok(DONE)
            }
            Some(Call::Prepare(prepare)) => {
                let flags = pod::namespaces(prepare.network, prepare.ipc, prepare.uts);
                pod::make_namespaces(flags & !self.prepared)?;
                self.prepared |= flags;
                Ok(DONE)
            }
            Some(Call::State(_)) => Ok(Outcome::Now(Answer::States(self.states()))),
            Some(Call::Start(request) | Call::StartExtended(request)) => {
                self.start(request, fds, caller)
            }
            Some(Call::Exec(request)) => self.exec(request, fds, caller),
            Some(Call::Attach(request)) => self.attach(&request, fds, caller),
            Some(Call::CloseInput(request)) => {
                self.container(&request.container)?.stdin = None;
                Ok(DONE)
            }
            Some(Call::Stop(request)) => self.stop(&request),
            Some(Call::ReopenLog(request)) => {
                let container = self.container(&request.container)?;
                match &mut container.log {
                    Some(log) => log.reopen().during("reopen", "log file")?,
                    // Whoever moved the file away is to move it back.
                    None if matches!(container.phase, Phase::Exited { .. }) => {
                        let message = "the container has ended, and writes no log".to_owned();
                        return Err(Error::Child { kind: Kind::FailedPrecondition, message });
                    }
                    None => {}
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
                if let Some(exec) = self.execs.get_mut(&request.exec) {
                    exec.deadline.get_or_insert_with(|| Instant::now() + AGAIN);
                    exec.kill()?;
                }
                Ok(DONE)
            }
            Some(Call::Shutdown(_)) => Ok(self.shut_down(caller)),
            None => Err(Error::Child {
                kind: Kind::Unimplemented,
                message: format!(
                    "the monitor of this pod is too old for this (it is of release {}, protocol \
                     {PROTOCOL}); make the pod anew",
                    env!("CARGO_PKG_VERSION")
                ),
            }),
        }
    }

    pub(super) fn container(&mut self, id: &str) -> Result<&mut Container, Error> {
        self.containers.get_mut(id).ok_or_else(|| Error::Child {
            kind: Kind::NotFound,
            message: format!("container {id} does not run in this pod"),
        })
    }

    pub(super) fn states(&self) -> v1::States {
        let init = self.pod.as_ref().and_then(|pod| pod.init.as_ref());
        v1::States {
            containers: self.containers.iter().map(|(id, c)| c.state(id)).collect(),
            init_pid: init.map_or(0, |init| init.pid.as_raw_nonzero().get()),
            init_exited: self.pod.as_ref().is_some_and(|pod| pod.init_exited),
        }
    }

    pub(super) fn stop(&mut self, request: &v1::Stop) -> Result<Outcome, Error> {
        let container = self.container(&request.container)?;
        let mut deadline = Instant::now().checked_add(Duration::from_millis(request.timeout));
        match &mut container.phase {
            Phase::Exited { .. } => return Ok(DONE),
            // Its program gets no grace before it runs.
            Phase::Starting(way) => {
                way.failure.get_or_insert_with(|| stopped(&request.container));
                deadline = Some(Instant::now());
                container.deadline = deadline;
            }
            Phase::Running { .. } => {}
        }
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
        self.do_what_is_due();
        Ok(DONE)
    }

    pub(super) fn delete(&mut self, id: &str) -> Result<Outcome, Error> {
        let Some(container) = self.containers.get(id) else { return Ok(DONE) };
        if !matches!(container.phase, Phase::Exited { .. }) {
            return Err(container.lingering(id));
        }
        // Processes of execs, and in a shared PID namespace others, can be left.
        if !container.cgroup.is_empty()? {
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
}

fn failed_precondition(message: String) -> Error {
    Error::Child { kind: Kind::FailedPrecondition, message }
}

fn stopped(container: &str) -> Error {
    failed_precondition(format!("container {container} was stopped before its program ran"))
}

pub(super) fn parse_resources(json: &[u8]) -> Result<LinuxResources, Error> {
    if json.is_empty() {
        return Ok(LinuxResources::default());
    }
    serde_json::from_slice(json)
        .map_err(|error| Error::spec("linux.resources", format!("does not parse: {error}")))
}
