//! The event loop of the monitor.
//!
//! One thread waits for requests, reports of children, output and ends of children, and does
//! each at once; nothing in it blocks on the daemon. Descriptor 0 is the listening socket and
//! descriptor 1 a first connection, both from the daemon that started it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use oci_spec::runtime::LinuxResources;
use prost::Message as _;
use rustix::{
    net::{SocketFlags, accept_with},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal, WaitOptions, WaitStatus, setsid, wait},
};

use super::{
    MAX_MESSAGE,
    container::{Caller, Container, Phase},
    exec::Exec,
    log::Log,
    pod::{self, Pod},
    record::ExitRecord,
    sources::{Meaning, Sources, Token},
    v1::{self, message::Content, reply::Result as Answer, request::Call},
};
use crate::{
    runtime::{
        cgroup::{Cgroup, Version},
        error::{During, Error},
        exec::{ExecRequest, exec},
        namespaces::PidNamespace,
        report::{self, Report},
        start::{Child, StartRequest, start},
        stdio::ChildStdio,
    },
    sys::{clone::SingleThreaded, signal, socket},
};

/// How much output is read at once, in bytes.
const OUTPUT_CHUNK: usize = 16 * 1024;

/// What a request comes to: an answer, or a child whose report will bring it.
enum Outcome {
    Now(Answer),
    Later,
}

const DONE: Outcome = Outcome::Now(Answer::Done(v1::Done {}));

/// The monitor of one pod.
struct Server {
    proof: SingleThreaded,
    version: Version,
    sources: Sources,
    pod: Option<Pod>,
    /// Namespaces (`CLONE_NEW*`) that were made ahead of the pod.
    prepared: libc::c_int,
    containers: BTreeMap<String, Container>,
    execs: BTreeMap<u64, Exec>,
    /// cgroups of execs that have ended and left processes behind.
    left_behind: Vec<Cgroup>,
    buffer: Vec<u8>,
    /// Set by the last request.
    over: bool,
}

/// Runs the monitor until it is told to end.
///
/// # Errors
/// When the process cannot be set up, or the event loop itself fails.
pub fn run() -> Result<(), Error> {
    let mut server = Server::new()?;
    while !server.over {
        server.turn()?;
    }
    Ok(())
}

impl Server {
    fn new() -> Result<Self, Error> {
        let proof = SingleThreaded::prove().during("start", "monitor")?;
        // Not for those who look at /proc: descriptors of the host are open here, and for a
        // moment in children that already are in a container's PID namespace.
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
            .during("protect", "monitor")?;
        // Executed by descriptor, its name would be a number.
        rustix::thread::set_name(c"criquet-monitor").during("name", "monitor")?;
        // The daemon may start it as the leader of a group.
        let _ = setsid();
        let own = Some(rustix::process::getpid());
        rustix::process::set_child_subreaper(own).during("become", "subreaper")?;
        signal::ignore(libc::SIGPIPE);
        signal::ignore(libc::SIGHUP);

        let mut sources = Sources::new().during("create", "event loop")?;
        let add = |sources: &mut Sources, fd: OwnedFd, meaning| {
            sources.add(fd, meaning).during("watch", "descriptor")
        };
        add(&mut sources, moved(rustix::stdio::stdin())?, Meaning::Listener)?;
        add(&mut sources, moved(rustix::stdio::stdout())?, Meaning::Connection)?;
        let signals = signal::signalfd(&[libc::SIGCHLD]).during("create", "signalfd")?;
        add(&mut sources, signals, Meaning::Signals)?;
        let null = null_device()?;
        rustix::stdio::dup2_stdin(&null).during("close", "stdin")?;
        rustix::stdio::dup2_stdout(&null).during("close", "stdout")?;
        Ok(Server {
            proof,
            version: Version::detect().during("inspect", "cgroups")?,
            sources,
            pod: None,
            prepared: 0,
            containers: BTreeMap::new(),
            execs: BTreeMap::new(),
            left_behind: Vec::new(),
            buffer: Vec::new(),
            over: false,
        })
    }

    fn turn(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let deadline = self.containers.values().filter_map(|c| c.deadline).min();
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(now));
        let ready = self.sources.wait(timeout).during("wait for", "events")?;
        for token in ready {
            // An earlier event of the same round may have removed it.
            match self.sources.meaning(token) {
                None => {}
                Some(Meaning::Listener) => self.accept(token),
                Some(Meaning::Signals) => self.reap(token),
                Some(Meaning::Connection) => self.serve(token),
                Some(Meaning::ContainerReport(id)) => self.container_report(&id),
                Some(Meaning::ExecReport(id)) => self.exec_report(id),
                Some(Meaning::Output(id, stream)) => {
                    self.output(token, &id, stream);
                }
            }
        }
        self.end_overdue();
        Ok(())
    }

    // Requests.

    fn accept(&mut self, listener: Token) {
        let Some(fd) = self.sources.fd(listener) else { return };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        if let Ok(connection) = accept_with(fd, flags) {
            // Whoever connects and is not heard tries again.
            let _ = self.sources.add(connection, Meaning::Connection);
        }
    }

    fn serve(&mut self, connection: Token) {
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

    fn call(
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
            Some(Call::Signal(request)) => {
                self.container(&request.container)?.signal(request.signal)?;
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
            Some(Call::ResizeTerminal(_)) | None => Err(Error::spec(
                "request",
                "this monitor is older than the daemon and does not know it; restart the pod",
            )),
        }
    }

    fn container(&mut self, id: &str) -> Result<&mut Container, Error> {
        self.containers.get_mut(id).ok_or_else(|| Error::Child {
            kind: crate::kind::Kind::NotFound,
            message: format!("container {id} does not run in this pod"),
        })
    }

    fn states(&self) -> v1::States {
        let init = self.pod.as_ref().and_then(|pod| pod.init.as_ref());
        v1::States {
            containers: self.containers.iter().map(|(id, c)| c.state(id)).collect(),
            init_pid: init.map_or(0, |init| init.pid.as_raw_nonzero().get()),
        }
    }

    fn start(
        &mut self,
        request: v1::Start,
        fds: Vec<OwnedFd>,
        caller: Caller,
    ) -> Result<Outcome, Error> {
        let mut fds = fds.into_iter();
        let bundle = fds.next().ok_or_else(|| Error::spec("start", "no bundle came with it"))?;
        let filter = if request.has_filter { fds.next() } else { None };
        let id = &request.container;
        if self.containers.contains_key(id) {
            return Err(Error::spec("container", format!("{id} has been started already")));
        }
        let log = match request.log_path.as_str() {
            "" => None,
            path => Some(open_log(&request.log_directory, path)?),
        };
        let namespace = self.pid_namespace(&request)?;
        let pid = match (request.pid_mode(), &namespace) {
            (v1::PidMode::Container, _) => PidNamespace::New,
            (_, Some(namespace)) => PidNamespace::Join(*namespace),
            (_, None) => PidNamespace::Inherit,
        };
        let resources = parse_resources(&request.resources)?;
        let (stdio, ours) = streams(&request)?;
        let path = PathBuf::from(&request.cgroup);
        let cgroup = Cgroup::create(self.version, &path, Some(&resources))?;
        let oom_kills_before = cgroup.oom_kills();
        let child = start(
            &self.proof,
            StartRequest {
                bundle,
                filter,
                filter_flags: request.filter_flags,
                cgroup: &cgroup,
                pid,
                stdio,
            },
        );
        let Child { pid, pidfd, report } = match child {
            Ok(child) => child,
            Err(error) => {
                // Nothing ever ran in it.
                let _ = cgroup.remove();
                return Err(error);
            }
        };
        let report = self.watch(report, Meaning::ContainerReport(id.clone()))?;
        let mut outputs = Vec::new();
        for (stream, fd) in ours.outputs.into_iter().enumerate() {
            outputs.push(self.watch(fd, Meaning::Output(id.clone(), stream))?);
        }
        let container = Container {
            cgroup,
            pid,
            pidfd,
            phase: Phase::Starting { caller, report, ready: false, failure: None },
            log,
            outputs,
            _stdin: ours.stdin,
            shares_pid_namespace: request.pid_mode() != v1::PidMode::Container,
            deadline: None,
            oom_kills_before,
        };
        self.containers.insert(request.container, container);
        Ok(Outcome::Later)
    }

    fn watch(&mut self, fd: OwnedFd, meaning: Meaning) -> Result<Token, Error> {
        self.sources.add(fd, meaning).during("watch", "descriptor")
    }

    /// The PID namespace that a container joins; none for its own and for the host's.
    fn pid_namespace(&self, request: &v1::Start) -> Result<Option<BorrowedFd<'_>>, Error> {
        match request.pid_mode() {
            v1::PidMode::Container | v1::PidMode::Node => Ok(None),
            v1::PidMode::Pod => match &self.pod {
                Some(pod) => pod.pid_namespace().map(Some),
                None => Err(Error::spec("start", "the pod is not set up")),
            },
            v1::PidMode::Target => match self.containers.get(&request.target) {
                Some(target) if target.is_running() => Ok(Some(target.pidfd.as_fd())),
                _ => Err(Error::spec(
                    "namespace_options.target_id",
                    format!("container {} does not run in this pod", request.target),
                )),
            },
        }
    }

    fn exec(
        &mut self,
        request: v1::Exec,
        fds: Vec<OwnedFd>,
        caller: Caller,
    ) -> Result<Outcome, Error> {
        let missing = || Error::spec("exec", "descriptors are missing");
        let mut fds = fds.into_iter();
        let bundle = fds.next().ok_or_else(missing)?;
        let filter = if request.has_filter { Some(fds.next().ok_or_else(missing)?) } else { None };
        let stdio = if request.terminal {
            ChildStdio::Terminal { rows: request.rows as u16, columns: request.columns as u16 }
        } else {
            let (Some(stdin), Some(stdout), Some(stderr)) = (fds.next(), fds.next(), fds.next())
            else {
                return Err(missing());
            };
            ChildStdio::Streams { stdin, stdout, stderr }
        };
        let container = self.containers.get(&request.container).filter(|c| c.is_running());
        let Some(container) = container else {
            return Err(Error::Child {
                kind: crate::kind::Kind::FailedPrecondition,
                message: format!("container {} is not running", request.container),
            });
        };
        self.left_behind.retain(|cgroup| !cgroup.is_empty() || cgroup.remove().is_err());
        let cgroup = container.cgroup.create_child(&format!("exec-{}", request.exec))?;
        let child = exec(
            &self.proof,
            ExecRequest { bundle, filter, cgroup: &cgroup, init: container.pidfd.as_fd(), stdio },
        );
        let Child { pid, report, .. } = match child {
            Ok(child) => child,
            Err(error) => {
                // Nothing ever ran in it.
                let _ = cgroup.remove();
                return Err(error);
            }
        };
        let report = Some(self.watch(report, Meaning::ExecReport(request.exec))?);
        let exec = Exec {
            container: request.container,
            cgroup,
            pid,
            caller,
            report,
            ready: false,
            failure: None,
            terminal: None,
        };
        self.execs.insert(request.exec, exec);
        Ok(Outcome::Later)
    }

    fn stop(&mut self, request: &v1::Stop) -> Result<Outcome, Error> {
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

    fn end_overdue(&mut self) {
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

    fn delete(&mut self, id: &str) -> Result<Outcome, Error> {
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
            for token in container.outputs {
                self.sources.remove(token);
            }
        }
        if let Some(pod) = &self.pod {
            ExitRecord::remove(&pod.directory, id);
        }
        Ok(DONE)
    }

    fn shut_down(&mut self) -> Result<Outcome, Error> {
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
    fn reap_all_within(&mut self, limit: Duration) {
        let end = Instant::now() + limit;
        while self.containers.values().any(|c| !c.cgroup.is_empty()) && Instant::now() < end {
            let signals = self.sources.find(&Meaning::Signals);
            if let Some(signals) = signals {
                self.reap(signals);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    // Children.

    fn container_report(&mut self, id: &str) {
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

    fn exec_report(&mut self, id: u64) {
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

    fn reap(&mut self, signals: Token) {
        if let Some(fd) = self.sources.fd(signals) {
            while signal::next_signal(fd).is_ok() {}
        }
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            self.child_ended(pid, exit_code(status));
        }
    }

    fn child_ended(&mut self, pid: Pid, exit_code: i32) {
        if let Some(id) = self.execs.iter().find(|(_, e)| e.pid == pid).map(|(id, _)| *id) {
            self.exec_ended(id, exit_code);
        } else if let Some(id) =
            self.containers.iter().find(|(_, c)| c.pid == pid).map(|(id, _)| id.clone())
        {
            self.container_ended(&id, exit_code);
        }
        // Any other is an orphan of a container in the host's PID namespace.
    }

    fn exec_ended(&mut self, id: u64, exit_code: i32) {
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

    fn container_ended(&mut self, id: &str, exit_code: i32) {
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
        self.record(id, &exit);
        self.tell(Content::ContainerExited(exit));
    }

    fn record(&self, id: &str, exit: &v1::ContainerExited) {
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

    // Output.

    /// Reads once. Returns whether there may be more now.
    fn output(&mut self, token: Token, id: &str, stream: usize) -> bool {
        let (Some(fd), Some(container)) = (self.sources.fd(token), self.containers.get_mut(id))
        else {
            return false;
        };
        self.buffer.resize(OUTPUT_CHUNK, 0);
        let ended = match rustix::io::read(fd, &mut self.buffer[..]) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return false,
            // EIO: the last program has closed the terminal.
            Ok(0) | Err(_) => true,
            Ok(length) => {
                if let Some(log) = &mut container.log {
                    // A full disk loses lines; it must not stop the program.
                    let _ = log.write(stream, &self.buffer[..length]);
                }
                false
            }
        };
        if ended {
            if let Some(log) = &mut container.log {
                let _ = log.end(stream);
            }
            container.outputs.retain(|&other| other != token);
            self.sources.remove(token);
        }
        !ended
    }

    /// Reads what is left in the pipes of a container that has ended, so that its log is
    /// whole when its end is known. Whoever still writes does not hold this up: what comes
    /// later is read when it comes.
    fn drain(&mut self, id: &str) {
        /// The most that a pipe holds is 1 MiB (`/proc/sys/fs/pipe-max-size`).
        const MOST_CHUNKS: usize = (1 << 20) / OUTPUT_CHUNK;
        let outputs = self.containers.get(id).map(|c| c.outputs.clone()).unwrap_or_default();
        for token in outputs {
            let Some(Meaning::Output(_, stream)) = self.sources.meaning(token) else { continue };
            let mut chunks = 0;
            while chunks < MOST_CHUNKS && self.output(token, id, stream) {
                chunks += 1;
            }
        }
        self.buffer = Vec::new();
    }

    // Answers.

    fn answer(&mut self, caller: Caller, answer: Answer, fds: &[BorrowedFd<'_>]) {
        let reply = v1::Reply { id: caller.request, result: Some(answer) };
        self.send(caller.connection, &Content::Reply(reply), fds);
    }

    fn fail(&mut self, caller: Caller, error: &Error) {
        self.answer(caller, Answer::Failure(error.into()), &[]);
    }

    fn tell(&mut self, content: Content) {
        for connection in self.sources.connections() {
            self.send(connection, &content, &[]);
        }
    }

    /// A connection that takes no message is closed: its daemon asks for the state when it
    /// connects again, and so loses nothing.
    fn send(&mut self, connection: Token, content: &Content, fds: &[BorrowedFd<'_>]) {
        let Some(socket) = self.sources.fd(connection) else { return };
        let message = v1::Message { content: Some(content.clone()) };
        if socket::send(socket, &message.encode_to_vec(), fds).is_err() {
            self.disconnect(connection);
        }
    }

    /// A monitor that waits for a pod belongs to the daemon that keeps it, and ends with it.
    fn disconnect(&mut self, connection: Token) {
        self.sources.remove(connection);
        self.over |= self.pod.is_none() && self.sources.connections().is_empty();
    }
}

/// Our ends of a container's streams.
struct Ours {
    outputs: Vec<OwnedFd>,
    stdin: Option<OwnedFd>,
}

fn streams(request: &v1::Start) -> Result<(ChildStdio, Ours), Error> {
    if request.terminal {
        let ours = Ours { outputs: Vec::new(), stdin: None };
        return Ok((ChildStdio::Terminal { rows: 0, columns: 0 }, ours));
    }
    let pipe = || pipe_with(PipeFlags::CLOEXEC).during("create", "pipe");
    let (stdin, our_stdin) = if request.stdin {
        let (read, write) = pipe()?;
        (read, Some(write))
    } else {
        (null_device()?, None)
    };
    let (our_stdout, stdout) = pipe()?;
    let (our_stderr, stderr) = pipe()?;
    for fd in [&our_stdout, &our_stderr] {
        rustix::io::ioctl_fionbio(fd, true).during("prepare", "pipe")?;
    }
    let ours = Ours { outputs: vec![our_stdout, our_stderr], stdin: our_stdin };
    Ok((ChildStdio::Streams { stdin, stdout, stderr }, ours))
}

/// A log lies beneath the log directory of its sandbox, or in its own.
fn open_log(directory: &str, path: &str) -> Result<Log, Error> {
    let own = || Path::new(path).parent().unwrap_or(Path::new("/"));
    let directory = if directory.is_empty() { own() } else { Path::new(directory) };
    match Log::open(directory, Path::new(path)) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::EINVAL)) => {
            let reason = format!("{path} is a link or no regular file; remove it");
            Err(Error::spec("log_path", reason))
        }
        result => result.during("open log file", path),
    }
}

/// Says something that nobody may be there to read: a daemon's standard error can be a pipe
/// whose reader has ended, and `eprintln` would end the pod for it.
fn complain(words: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "criquet-monitor: {words}");
}

fn null_device() -> Result<OwnedFd, Error> {
    let open = File::options().read(true).write(true).open("/dev/null");
    open.map(OwnedFd::from).during("open", "/dev/null")
}

fn moved(fd: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3).during("take over", "descriptor")
}

fn parse_resources(json: &[u8]) -> Result<LinuxResources, Error> {
    if json.is_empty() {
        return Ok(LinuxResources::default());
    }
    serde_json::from_slice(json)
        .map_err(|error| Error::spec("linux.resources", format!("does not parse: {error}")))
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
