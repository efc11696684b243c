//! Starts of containers and execs: what is made before the clone, and watched after it.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::pipe::{PipeFlags, pipe_with};

use super::{Outcome, Server, refusals, requests::parse_resources};
use crate::{
    monitor::{
        START_LIMIT,
        container::{Caller, Container, Phase},
        exec::Exec,
        log::Log,
        pod::Pod,
        rate::Rate,
        record::ExitRecord,
        sources::{Meaning, Token},
        v1,
        way::Way,
    },
    runtime::{
        cgroup::Cgroup,
        error::{During, Error},
        exec::{ExecRequest, exec},
        namespaces::{Member, PidNamespace},
        start::{Child, StartRequest, start},
        stdio::ChildStdio,
    },
    sys::keyring::Keyring,
};

impl Server {
    pub(super) fn start(
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
            path => Some(open_log(&request, path)?),
        };
        let namespace = self.pid_namespace(&request)?;
        let pid = match (request.pid_mode(), &namespace) {
            (v1::PidMode::Container, _) => PidNamespace::New,
            (_, Some(namespace)) => PidNamespace::Join(*namespace),
            (_, None) => PidNamespace::Inherit,
        };
        let resources = parse_resources(&request.resources)?;
        let (stdio, ours) = streams(&request)?;
        let keyring = Keyring::unique().during("name", "session keyring")?;
        let path = PathBuf::from(&request.cgroup);
        if let Some(pod) = &self.pod {
            ExitRecord::reserve(&pod.directory, id).during("reserve space for the end of", id)?;
        }
        let cgroup = Cgroup::create(self.version, &path, Some(&resources))?;
        if let Some(users) = self.pod.as_ref().and_then(Pod::users) {
            cgroup.delegate(users.root)?;
        }
        let oom_kills_before = cgroup.oom_kills()?;
        let refusals = refusals::of_start(&request, filter.as_ref())?;
        let is_joined = matches!(pid, PidNamespace::Join(_));
        let child = start(
            &self.proof,
            StartRequest {
                bundle,
                filter,
                filter_flags: request.filter_flags,
                cgroup: &cgroup,
                pid,
                users: self.pod.as_ref().and_then(Pod::users),
                keyring: &keyring,
                stdio,
                has_outer_hooks: request.has_outer_hooks,
                template: self.pod.as_ref().and_then(Pod::template),
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
            pidfd: Some(pidfd),
            phase: Phase::Starting(Way {
                has_runner: request.has_outer_hooks && !is_joined,
                ..Way::new(caller, report)
            }),
            keyring,
            log,
            outputs,
            stdin: ours.stdin,
            terminal: request.terminal,
            stdin_once: request.stdin_once,
            stdin_holder: None,
            readers: Vec::new(),
            shares_pid_namespace: request.pid_mode() != v1::PidMode::Container,
            deadline: Some(Instant::now() + self.start_limit()),
            killed_at: None,
            closed_terminal: None,
            oom_kills_before,
            refusals,
            stopped_for_refusal: false,
        };
        self.containers.insert(request.container, container);
        Ok(Outcome::Later)
    }

    pub(super) fn watch(&mut self, fd: OwnedFd, meaning: Meaning) -> Result<Token, Error> {
        self.sources.add(fd, meaning).during("watch", "descriptor")
    }

    /// The PID namespace that a container joins; none for its own and for the host's.
    pub(super) fn pid_namespace(&self, request: &v1::Start) -> Result<Option<Member<'_>>, Error> {
        match request.pid_mode() {
            v1::PidMode::Container | v1::PidMode::Node => Ok(None),
            v1::PidMode::Pod => match &self.pod {
                Some(pod) => pod.pid_namespace().map(Some),
                None => Err(Error::spec("start", "the pod is not set up")),
            },
            v1::PidMode::Target => {
                match self.containers.get(&request.target).map(|c| (c.pid, c.running())) {
                    Some((pid, Some(pidfd))) => Ok(Some(Member { pid, pidfd })),
                    // Never none: that would be the host's namespace.
                    _ => Err(Error::spec(
                        "namespace_options.target_id",
                        format!("container {} does not run in this pod", request.target),
                    )),
                }
            }
        }
    }

    fn start_limit(&self) -> Duration {
        self.pod.as_ref().map_or(START_LIMIT, |pod| pod.start_limit)
    }

    pub(super) fn exec(
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
            ChildStdio::Streams { stdin: Some(stdin), stdout, stderr }
        };
        let container = self.containers.get(&request.container);
        let Some((container, init)) = container.and_then(|c| Some((c, c.running()?))) else {
            return Err(Error::Child {
                kind: crate::kind::Kind::FailedPrecondition,
                message: format!("container {} is not running", request.container),
            });
        };
        self.left_behind.retain(|left| !left.is_removed());
        let cgroup = container.cgroup.create_child(&format!("exec-{}", request.exec))?;
        let keyring = &container.keyring;
        let users = self.pod.as_ref().and_then(Pod::users).map(|users| users.root);
        let request_of_child =
            ExecRequest { bundle, filter, cgroup: &cgroup, init, users, keyring, stdio };
        let child = exec(&self.proof, request_of_child);
        let Child { pid, report, .. } = match child {
            Ok(child) => child,
            Err(error) => {
                // Nothing ever ran in it.
                let _ = cgroup.remove();
                return Err(error);
            }
        };
        let report = self.watch(report, Meaning::ExecReport(request.exec))?;
        let now = Instant::now();
        let milliseconds = Some(request.timeout).filter(|&timeout| timeout > 0);
        let timeout = milliseconds.and_then(|ms| now.checked_add(Duration::from_millis(ms)));
        let deadline = now + self.start_limit();
        let exec = Exec {
            container: request.container,
            cgroup,
            pid,
            way: Way::new(caller, report),
            terminal: None,
            deadline: Some(timeout.map_or(deadline, |timeout| timeout.min(deadline))),
            timeout,
            killed_at: None,
            timed_out: false,
        };
        self.execs.insert(request.exec, exec);
        Ok(Outcome::Later)
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
        // Until somebody attached says another size.
        return Ok((ChildStdio::Terminal { rows: 24, columns: 80 }, ours));
    }
    let pipe = || pipe_with(PipeFlags::CLOEXEC).during("create", "pipe");
    let (stdin, our_stdin) = if request.stdin {
        let (read, write) = pipe()?;
        (Some(read), Some(write))
    } else {
        (None, None)
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
fn open_log(request: &v1::Start, path: &str) -> Result<Log, Error> {
    let own = || Path::new(path).parent().unwrap_or(Path::new("/"));
    let directory = request.log_directory.as_str();
    let directory = if directory.is_empty() { own() } else { Path::new(directory) };
    let rate = Rate::new(request.log_rate, request.log_burst, Instant::now());
    match Log::open(directory, Path::new(path), request.terminal, rate) {
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::EINVAL | libc::ENOTDIR)) =>
        {
            let reason = format!("{path} is a link or no regular file; remove it");
            Err(Error::spec("log_path", reason))
        }
        result => result.during("open log file", path),
    }
}
