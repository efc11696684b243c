//! The filter of system calls of a process that is on its way to its program.

use std::os::fd::AsFd;

use super::{
    error::{During, Error},
    report::Reporter,
};
use crate::sys::{
    exception::Exception,
    notify,
    seccomp::{self, Instruction, NEW_LISTENER},
};

/// A compiled filter and its flags (`SECCOMP_FILTER_FLAG_*`). With a listener among them, the
/// monitor is told of what it refuses.
pub(super) type Filter<'a> = (&'a [Instruction], u32);

/// Loads it, behind the exception where there is one. The listener goes to the monitor.
pub(super) fn load(
    (filter, flags): Filter<'_>,
    exception: Option<&Exception>,
    reporter: &Reporter,
) -> Result<(), Error> {
    let during = |result: std::io::Result<()>| result.during("load", "seccomp filter");
    if flags & NEW_LISTENER == 0 {
        return match exception {
            None => during(seccomp::load(filter, flags)),
            Some(exception) => during(seccomp::load(&exception.before(filter), flags)),
        };
    }
    // Who waits for the answer to a call cannot hand over the one who answers.
    let own;
    let exception = match exception {
        Some(exception) => exception,
        None => {
            own = Exception::new().during("read", "random bytes")?;
            &own
        }
    };
    let filter = exception.before(&notify::telling(filter));
    let listener = seccomp::load_and_listen(&filter, flags).during("load", "seccomp filter")?;
    reporter.listener(exception, listener.as_fd()).during("hand over", "seccomp listener")
}
