//! Becoming a program inside a PID namespace where others are already.
//!
//! Whoever may trace processes there (`CAP_SYS_PTRACE`, or the same user) can make a process
//! its own from the moment on that it is there, with all that it has. So it is made last: what
//! needs rights, and what still has something of the host, is done by a helper outside of the
//! namespace, which becomes what the program is to be in every other respect and then clones
//! the process that executes it. That one is a child of the monitor like the helper, and has
//! nothing that the program has not, but for a socket that says `ready` or why not.

use std::{convert::Infallible, os::fd::BorrowedFd};

use oci_spec::runtime::Process;
use rustix::{
    process::{DumpableBehavior, set_dumpable_behavior},
    thread::set_no_new_privs,
};

use super::{
    bundle::RawEnvironment,
    error::{During, Error},
    filter::{self, Filter},
    hooks,
    namespaces::{join_pid_namespace, refused},
    process::{Wanted, become_user, enter_working_directory, execute, with_raw},
    report::Reporter,
    stdio,
};
use crate::sys::{
    clone::{SingleThreaded, clone_beside},
    exception::Exception,
    exec,
};

/// Where the program is to run, and with what.
pub(super) struct Inside<'a> {
    /// The PID namespace, or a process of it by its pidfd.
    pub namespace: BorrowedFd<'a>,
    /// What to execute, and as whom.
    pub process: &'a Process,
    /// The filter and its flags.
    pub filter: Option<Filter<'a>>,
    /// Values of its environment that are not UTF-8.
    pub raw_environment: &'a RawEnvironment,
    /// Hooks of its container, where it is the first process of that.
    pub hooks: Option<&'a hooks::Own<'a>>,
    /// Whether the standard streams are a terminal that is to be its controlling one.
    pub has_terminal: bool,
}

/// Ends this process once the other one is on its way; returns with what kept it from that.
/// The caller holds no descriptor that it uses again.
pub(super) fn run(
    proof: &SingleThreaded,
    reporter: Reporter,
    inside: &Inside<'_>,
) -> Result<Infallible, (Error, Reporter)> {
    let last = match reporter.hand_over_to_another().during("create", "report socket") {
        Ok(last) => last,
        Err(error) => return Err((error, reporter)),
    };
    drop(reporter);
    match go(proof, &last, inside) {
        Ok(never) => match never {},
        Err(error) => Err((error, last)),
    }
}

fn go(proof: &SingleThreaded, last: &Reporter, inside: &Inside<'_>) -> Result<Infallible, Error> {
    let Inside { namespace, process, raw_environment, hooks, filter, has_terminal } = *inside;
    let arguments = process.args().as_deref().unwrap_or_default();
    let environment = process.env().as_deref().unwrap_or_default();
    let environment = with_raw(environment, raw_environment);
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);

    join_pid_namespace(namespace)?;
    exec::close_all_but_streams_and(last.as_fd());
    stdio::give_to(process.user().uid())?;
    let entered = enter_working_directory(process.cwd());
    let wanted = Wanted::of(process.capabilities().as_ref());
    // Without no_new_privs a filter needs CAP_SYS_ADMIN.
    let for_filter = filter.is_some() && !no_new_privileges;
    let own = if for_filter { wanted.and_for_a_filter() } else { wanted };
    become_user(process.user(), &own)?;
    // A directory on a network filesystem may be closed to root and open to the user.
    if entered.is_err() {
        enter_working_directory(process.cwd())?;
    }
    if no_new_privileges {
        set_no_new_privs(true).during("set", "no_new_privs")?;
    }
    // Others of the same user have no business with it before its program does.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).during("protect", "process")?;
    let exception = Exception::new().during("read", "random bytes")?;
    if let Some(filter) = filter {
        filter::load(filter, Some(&exception), last)?;
    }
    if for_filter {
        exception.set_capabilities(wanted.sets()).during("set", "capabilities")?;
    }
    match clone_beside(proof, 0, &exception).map_err(refused)? {
        Some(_) => exec::exit(0),
        None => {
            exception.create_session().during("create", "session")?;
            if has_terminal {
                let terminal = rustix::stdio::stdin();
                exception.take_control(terminal).during("take control of", "terminal")?;
            }
            hooks.map_or(Ok(()), |hooks| hooks.start_container(last))?;
            last.ready().during("report to", "monitor")?;
            execute(arguments, &environment)
        }
    }
}
