//! The event loop of the monitor.
//!
//! One thread waits for requests, reports of children, output and ends of children, and does
//! each at once; nothing in it blocks on the daemon. Descriptor 0 is the listening socket and
//! descriptor 1 a first connection, both from the daemon that started it.

mod answers;
mod attach;
mod children;
mod connections;
mod launch;
mod output;
mod refusals;
mod requests;
mod shutdown;
mod timers;

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    pipe::{PipeFlags, pipe_with},
    process::{Pid, setsid},
};

use super::{
    container::Container,
    exec::{Exec, LeftBehind},
    pod::Pod,
    sources::{Meaning, Sources, Token},
    v1::{self, reply::Result as Answer},
};
use crate::{
    runtime::{
        cgroup::Version,
        error::{During, Error},
    },
    sys::{clone::SingleThreaded, exec, hardening, signal},
};

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
    /// The connections, and whether anything sensible came over each.
    connections: BTreeMap<Token, bool>,
    /// Given up for a moment when no descriptor is left for somebody who connects.
    spare: Option<OwnedFd>,
    pod: Option<Pod>,
    /// Namespaces (`CLONE_NEW*`) that were made ahead of the pod.
    prepared: libc::c_int,
    containers: BTreeMap<String, Container>,
    execs: BTreeMap<u64, Exec>,
    /// cgroups of execs that have ended and left processes behind.
    left_behind: Vec<LeftBehind>,
    /// The child whose end is being dealt with: the kernel knows it no more.
    just_ended: Option<Pid>,
    /// How a child ended last that nobody knew.
    stranger: i32,
    /// The pod's end, while it is under way.
    shutdown: Option<shutdown::Shutdown>,
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
        exec::close_inherited();
        let proof = SingleThreaded::prove().during("start", "monitor")?;
        // Not for those who look at /proc: descriptors of the host are open here, and for a
        // moment in children that already are in a container's PID namespace.
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
            .during("protect", "monitor")?;
        // Kernels before 6.6 cannot keep it from containers.
        let _ = hardening::deny_write_execute();
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
        let first = add(&mut sources, moved(rustix::stdio::stdout())?, Meaning::Connection)?;
        let signals = signal::signalfd(&[libc::SIGCHLD]).during("create", "signalfd")?;
        add(&mut sources, signals, Meaning::Signals)?;
        let nothing = nothing()?;
        rustix::stdio::dup2_stdin(&nothing).during("close", "stdin")?;
        rustix::stdio::dup2_stdout(&nothing).during("close", "stdout")?;
        let mut server = Server {
            proof,
            version: Version::detect().during("inspect", "cgroups")?,
            sources,
            connections: BTreeMap::new(),
            spare: Some(nothing),
            pod: None,
            prepared: 0,
            containers: BTreeMap::new(),
            execs: BTreeMap::new(),
            left_behind: Vec::new(),
            just_ended: None,
            stranger: 0,
            shutdown: None,
            buffer: Vec::new(),
            over: false,
        };
        server.welcome(first);
        Ok(server)
    }

    fn turn(&mut self) -> Result<(), Error> {
        let ready = self.sources.wait(self.time_left()).during("wait for", "events")?;
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
                Some(Meaning::Reader(id)) => self.reader_gone(token, &id),
                Some(Meaning::Refusals(id)) => self.refusal(token, &id),
            }
        }
        self.do_what_is_due();
        self.go_on_shutting_down();
        Ok(())
    }
}

/// Says something that nobody may be there to read: a daemon's standard error can be a pipe
/// whose reader has ended, and `eprintln` would end the pod for it.
fn complain(words: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "criquet-monitor: {words}");
}

/// A pipe that is at its end: nothing to read, and no file of the host, which children would
/// have for a moment in a container.
fn nothing() -> Result<OwnedFd, Error> {
    let (read, _) = pipe_with(PipeFlags::CLOEXEC).during("create", "pipe")?;
    Ok(read)
}

fn moved(fd: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3).during("take over", "descriptor")
}
