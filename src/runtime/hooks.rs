//! Hooks: programs of the node that are run at moments in the life of a container (OCI runtime
//! spec, "POSIX-platform Hooks"). A container without any pays nothing for them.
//!
//! ```text
//! container's process                    runner, in the namespaces of the monitor
//!   makes itself the container
//!   ── ready ──────────────────────────►   prestart, createRuntime
//!   ◄───────────────────────────── go ──
//!   createContainer; changes its root
//!   becomes the user; startContainer
//!   ── executing ──────────────────────►
//!   (execve closes the socket) ────────►   poststart
//! ```
//!
//! The runner is a child of the monitor, and is there only for hooks that run outside. It keeps
//! the start from being answered until it has ended. `poststop` is the daemon's to run: a
//! monitor may be gone by then.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use oci_spec::runtime::{ContainerState, Hook, Hooks, Spec, StateBuilder};
use rustix::process::{Pid, Signal, pidfd_send_signal, setsid};

use super::{
    bundle::{Bundle, HookContext, read_json_at},
    error::{During, Error},
    program::{self, Program},
    report::Reporter,
    rights,
};
use crate::{
    kind::Kind,
    sys::{
        clone::{Cloned, SingleThreaded, clone3},
        exec, inherited, signal, socket,
    },
};

const READY: u8 = b'R';
const GO: u8 = b'G';
const EXECUTING: u8 = b'X';
const FAILED: u8 = b'F';

/// How long a hook without a timeout may take; a start has less anyway.
const LIMIT: Duration = Duration::from_secs(120);

/// Whether a spec has hooks that a runner is needed for.
pub fn need_runner(hooks: &Hooks) -> bool {
    [hooks.prestart(), hooks.create_runtime(), hooks.poststart()]
        .into_iter()
        .any(|list| list.as_ref().is_some_and(|list| !list.is_empty()))
}

/// Runs the `poststop` hooks of a container that is gone. All of them are run, whatever becomes
/// of the others. Waits for them.
///
/// # Errors
/// What each that failed has to say.
pub fn stopped(bundle: &Bundle) -> Result<(), Vec<Error>> {
    let Some(own) = Own::of(bundle) else { return Ok(()) };
    let hooks = own.hooks.poststop().iter().flatten();
    let run = |hook| own.run_one("poststop", hook, ContainerState::Stopped, None, None);
    let errors: Vec<Error> = hooks.map(run).filter_map(Result::err).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// The hooks of one container, and what they are told.
pub(super) struct Own<'bundle> {
    hooks: &'bundle Hooks,
    context: &'bundle HookContext,
    spec: &'bundle Spec,
}

impl<'bundle> Own<'bundle> {
    /// None where there are no hooks.
    pub(super) fn of(bundle: &'bundle Bundle) -> Option<Self> {
        let (Some(hooks), Some(context)) = (bundle.spec.hooks(), &bundle.hooks) else {
            return None;
        };
        Some(Self { hooks, context, spec: &bundle.spec })
    }

    fn run_one(
        &self,
        moment: &'static str,
        hook: &Hook,
        status: ContainerState,
        pid: Option<Pid>,
        over: Option<BorrowedFd<'_>>,
    ) -> Result<(), Error> {
        let state = StateBuilder::default()
            .version(self.spec.version().clone())
            .id(self.context.id.clone())
            .status(status)
            .bundle(self.context.directory.clone())
            .annotations(self.spec.annotations().clone().unwrap_or_default());
        let state = match pid {
            Some(pid) => state.pid(pid.as_raw_nonzero().get()),
            None => state,
        };
        let state = state.build().ok().and_then(|state| serde_json::to_vec(&state).ok());
        let state = state.ok_or_else(|| Error::spec("hooks", "the state cannot be told"))?;
        let name = || format!("{moment} hook {}", hook.path().display());
        let seconds = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok());
        let program = Program {
            path: hook.path(),
            arguments: hook.args().as_deref().unwrap_or_default(),
            environment: hook.env().as_deref().unwrap_or_default(),
            input: &state,
            limit: seconds.map_or(LIMIT, Duration::from_secs),
            over,
        };
        program::run(&program).map_err(|failure| Error::Child {
            kind: match failure.is_timeout() {
                true => Kind::DeadlineExceeded,
                false => Kind::FailedPrecondition,
            },
            message: format!("{} {failure}", name()),
        })
    }

    fn run_all(
        &self,
        moment: &'static str,
        hooks: &Option<Vec<Hook>>,
        status: ContainerState,
        pid: Pid,
        over: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        let mut hooks = hooks.iter().flatten();
        hooks.try_for_each(|hook| self.run_one(moment, hook, status, Some(pid), Some(over)))
    }

    /// Whether its hooks can be run: where a program is made last, among others, nobody outside
    /// learns in time who it is.
    pub(super) fn check(&self, is_among_others: bool, has_users: bool) -> Result<(), Error> {
        if has_users {
            return Err(Error::Child {
                kind: Kind::Unimplemented,
                message: "hooks are not run in pods with a user namespace yet; leave it out, or \
                          choose another device"
                    .to_owned(),
            });
        }
        let has_poststart = self.hooks.poststart().as_ref().is_some_and(|hooks| !hooks.is_empty());
        if !is_among_others || !has_poststart {
            return Ok(());
        }
        Err(Error::Child {
            kind: Kind::Unimplemented,
            message: "poststart hooks are not run for containers that share the PID namespace of \
                      their pod; give the container its own, or choose another device"
                .to_owned(),
        })
    }

    /// In the mount namespace of the container, before its root is changed.
    pub(super) fn create_container(&self, reporter: &Reporter) -> Result<(), Error> {
        let (hooks, pid) = (self.hooks.create_container(), rustix::process::getpid());
        let status = ContainerState::Creating;
        self.run_all("createContainer", hooks, status, pid, reporter.as_fd())
    }

    /// Whether some are found by paths of the host in the container's mount namespace.
    pub(super) fn need_host(&self) -> bool {
        self.hooks.create_container().as_ref().is_some_and(|hooks| !hooks.is_empty())
    }

    /// In the container, as its user, right before its program: the hook is a file of the image,
    /// which may do no more than the program itself.
    pub(super) fn start_container(&self, reporter: &Reporter) -> Result<(), Error> {
        let (hooks, pid) = (self.hooks.start_container(), rustix::process::getpid());
        self.run_all("startContainer", hooks, ContainerState::Created, pid, reporter.as_fd())
    }
}

/// The way from the container's process to its runner.
#[derive(Debug)]
pub(super) struct Link(OwnedFd);

impl Link {
    /// Both ends: of the container's process, and of the runner.
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = socket::pair()?;
        for fd in [&one, &other] {
            rustix::io::ioctl_fionbio(fd, false)?;
        }
        Ok((Self(one), Self(other)))
    }

    fn say(&self, word: u8) -> io::Result<()> {
        rustix::io::write(&self.0, &[word]).map(drop).map_err(io::Error::from)
    }

    /// The next word; nothing at the end.
    fn hear(&self) -> io::Result<Option<u8>> {
        let mut word = [0];
        loop {
            match rustix::io::read(&self.0, &mut word) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(0) => return Ok(None),
                Ok(_) => return Ok(Some(word[0])),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Lets the runner run what comes before the root is changed. Does not return where that
    /// failed, which the runner tells.
    pub(super) fn created(&self) -> Result<(), Error> {
        self.say(READY).during("tell", "runner of hooks")?;
        match self.hear().during("hear from", "runner of hooks")? {
            Some(GO) => Ok(()),
            _ => exec::exit(128),
        }
    }

    /// The program is executed next.
    pub(super) fn executing(&self) -> Result<(), Error> {
        self.say(EXECUTING).during("tell", "runner of hooks")
    }

    /// The container has come to nothing.
    pub(super) fn failed(&self) {
        // Without a runner nobody wants to know.
        let _ = self.say(FAILED);
    }
}

/// What a runner is started with.
pub(super) struct Runner<'a> {
    pub link: Link,
    pub reporter: &'a Reporter,
    /// A file with the [`Bundle`], which the container's process reads as well.
    pub bundle: BorrowedFd<'a>,
    /// The container's process.
    pub pid: Pid,
    pub pidfd: BorrowedFd<'a>,
}

/// Starts the runner. Without one, the container's process ends by itself.
pub(super) fn launch(proof: &SingleThreaded, runner: Runner<'_>) -> Result<(), Error> {
    match clone3(proof, 0, None).during("clone", "runner of hooks")? {
        Cloned::Parent { .. } => Ok(()),
        Cloned::Child => {
            let kept = [
                runner.link.0.as_raw_fd(),
                runner.reporter.as_fd().as_raw_fd(),
                runner.bundle.as_raw_fd(),
                runner.pidfd.as_raw_fd(),
            ];
            exec::close_from_but(3, &kept);
            let _ = setsid();
            inherited::reset();
            signal::reset();
            if let Err(error) = rights::take_up().and_then(|()| runner.run()) {
                runner.reporter.failed(&error);
                // A program that runs by now has to end for it.
                let _ = pidfd_send_signal(runner.pidfd, Signal::KILL);
            }
            exec::exit(0)
        }
    }
}

impl Runner<'_> {
    fn run(&self) -> Result<(), Error> {
        let bundle: Bundle = read_json_at(self.bundle)?;
        let Some(own) = Own::of(&bundle) else { return Ok(()) };
        let hooks = own.hooks;
        let run = |moment, list, status| {
            own.run_all(moment, list, status, self.pid, self.reporter.as_fd())
        };
        if self.link.hear().ok().flatten() != Some(READY) {
            // It tells itself why it got no further.
            return Ok(());
        }
        run("prestart", hooks.prestart(), ContainerState::Creating)?;
        run("createRuntime", hooks.create_runtime(), ContainerState::Creating)?;
        self.link.say(GO).during("tell", "process of the container")?;
        let is_executing = self.link.hear().ok().flatten() == Some(EXECUTING);
        if is_executing && self.link.hear().ok().flatten().is_none() {
            run("poststart", hooks.poststart(), ContainerState::Running)?;
        }
        Ok(())
    }
}
