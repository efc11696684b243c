//! From the `process` of a spec to a running program: the steps after the root filesystem.

use std::{
    convert::Infallible,
    ffi::{CString, OsStr},
    fs, io,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::Path,
};

use oci_spec::runtime::{Capability, LinuxCapabilities, PosixRlimitType, Process, User};
use rustix::{
    fs::{Mode, OFlags},
    process::{Gid, Uid, fchdir, ioctl_tiocsctty, setsid, umask},
    thread::{
        CapabilitySet, CapabilitySets, clear_ambient_capability_set,
        configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
        set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
        set_thread_res_uid,
    },
};

use super::{
    bundle::RawEnvironment,
    detached,
    error::{During, Error},
    filter::{self, Filter},
    label,
    report::Reporter,
    stdio,
};
use crate::sys::{exec, path::Root};

/// Steps that need the host's `/proc`.
pub(super) fn prepare(process: &Process) -> Result<(), Error> {
    if let Some(score) = process.oom_score_adj() {
        let file = "/proc/self/oom_score_adj";
        fs::write(file, score.to_string())
            .during("write", format_args!("oom score adjustment {score} to {file}"))?;
    }
    for limit in process.rlimits().iter().flatten() {
        exec::set_rlimit(resource_number(limit.typ()), limit.soft(), limit.hard())
            .during("set", format_args!("rlimit {:?}", limit.typ()))?;
    }
    label::apply(process)
}

/// Gives this process a session of its own, makes it the user, drops what it may not have, does
/// a last step with the rights that are left, and executes the program.
pub(super) fn run(
    process: &Process,
    raw_environment: &RawEnvironment,
    filter: Option<Filter<'_>>,
    has_terminal: bool,
    reporter: &Reporter,
    last_step: impl FnOnce() -> Result<(), Error>,
) -> Result<Infallible, Error> {
    let arguments = process.args().as_deref().unwrap_or_default();
    let environment = process.env().as_deref().unwrap_or_default();
    let environment = with_raw(environment, raw_environment);
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);
    let load = || filter.map_or(Ok(()), |filter| filter::load(filter, None, reporter));

    setsid().during("create", "session")?;
    if has_terminal {
        let terminal = rustix::stdio::stdin();
        ioctl_tiocsctty(terminal).during("take control of", "terminal")?;
    }
    // From here on nothing is opened that outlives `execve`. Before the filter, since a profile
    // may be older than the call.
    exec::close_on_exec_from(3).during("close", "inherited descriptors")?;
    stdio::give_to(process.user().uid())?;
    let entered = enter_working_directory(process.cwd());
    if no_new_privileges {
        set_no_new_privs(true).during("set", "no_new_privs")?;
    } else {
        // Without no_new_privs a filter needs CAP_SYS_ADMIN, which is gone afterwards.
        load()?;
    }
    become_user(process.user(), &Wanted::of(process.capabilities().as_ref()))?;
    // A directory on a network filesystem may be closed to root and open to the user.
    if entered.is_err() {
        enter_working_directory(process.cwd())?;
    }
    if no_new_privileges {
        load()?;
    }
    last_step()?;
    reporter.ready().during("report to", "monitor")?;
    execute(arguments, &environment)
}

/// Makes the working directory where the image lacks it, while the root can be written. What
/// keeps it from being made is told when it is entered.
pub(super) fn make_working_directory(cwd: &Path) {
    if let Ok(root) = detached::root_directory()
        && cwd.is_absolute()
    {
        let _ = Root::new(root.as_fd()).make_directory(cwd, Mode::from_raw_mode(0o755));
    }
}

pub(super) fn enter_working_directory(cwd: &Path) -> Result<(), Error> {
    if !cwd.is_absolute() {
        return Err(Error::spec("process.cwd", format!("{cwd:?} must be an absolute path")));
    }
    let root = detached::root_directory()?;
    // Made where it is absent, as users of the other runtimes expect. Resolving it beneath
    // the root without magic links keeps it away from descriptors of the host.
    let directory = Root::new(root.as_fd())
        .make_directory(cwd, Mode::from_raw_mode(0o755))
        .and_then(|_| Root::new(root.as_fd()).open(cwd, OFlags::PATH | OFlags::DIRECTORY))
        .during("enter working directory", cwd.display())?;
    fchdir(&directory).during("enter working directory", cwd.display())
}

pub(super) fn become_user(user: &User, wanted: &Wanted) -> Result<(), Error> {
    drop_bounding(wanted.bounding)?;
    set_keep_capabilities(true).during("keep", "capabilities")?;
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    let groups: Vec<Gid> =
        user.additional_gids().iter().flatten().map(|&gid| Gid::from_raw(gid)).collect();
    set_thread_groups(&groups).during("set", "supplementary groups")?;
    set_thread_res_gid(gid, gid, gid).during("become group", user.gid())?;
    set_thread_res_uid(uid, uid, uid).during("become user", user.uid())?;
    set_keep_capabilities(false).during("keep", "capabilities")?;
    set_capabilities(None, wanted.sets()).during("set", "capabilities")?;
    clear_ambient_capability_set().during("clear", "ambient capabilities")?;
    for capability in wanted.ambient.iter() {
        configure_capability_in_ambient_set(capability, true)
            .during("set", "ambient capability")?;
    }
    umask(Mode::from_raw_mode(user.umask().unwrap_or(0o022)));
    Ok(())
}

/// Takes every capability from this process, for good.
///
/// # Errors
/// Those of `prctl(2)` and `capset(2)`.
pub fn drop_all_capabilities() -> Result<(), Error> {
    let none = CapabilitySet::empty();
    drop_bounding(none)?;
    clear_ambient_capability_set().during("clear", "ambient capabilities")?;
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, sets).during("set", "capabilities")
}

/// Capability sets as bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    bounding: CapabilitySet,
    effective: CapabilitySet,
    permitted: CapabilitySet,
    inheritable: CapabilitySet,
    ambient: CapabilitySet,
}

impl Wanted {
    /// The same, and for a while what the load of a filter needs.
    pub(super) fn and_for_a_filter(self) -> Self {
        let more = CapabilitySet::SYS_ADMIN;
        Self { effective: self.effective | more, permitted: self.permitted | more, ..self }
    }

    pub(super) fn sets(&self) -> CapabilitySets {
        let Self { effective, permitted, inheritable, .. } = *self;
        CapabilitySets { effective, permitted, inheritable }
    }

    pub(super) fn of(capabilities: Option<&LinuxCapabilities>) -> Self {
        let bits = |set: Option<&std::collections::HashSet<Capability>>| {
            set.into_iter().flatten().fold(CapabilitySet::empty(), |bits, &capability| {
                bits | CapabilitySet::from_bits_retain(1 << number(capability))
            })
        };
        let of = |get: fn(&LinuxCapabilities) -> &Option<std::collections::HashSet<Capability>>| {
            bits(capabilities.and_then(|c| get(c).as_ref()))
        };
        Wanted {
            bounding: of(LinuxCapabilities::bounding),
            effective: of(LinuxCapabilities::effective),
            permitted: of(LinuxCapabilities::permitted),
            inheritable: of(LinuxCapabilities::inheritable),
            ambient: of(LinuxCapabilities::ambient),
        }
    }
}

/// The highest capability that a kernel may know (`CAP_LAST_CAP` is 40 since 5.9).
const LAST_CAPABILITY: u32 = 63;

fn drop_bounding(keep: CapabilitySet) -> Result<(), Error> {
    for number in 0..=LAST_CAPABILITY {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if keep.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The first number that the kernel does not know.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => {
                return Err(error).during("drop", format_args!("capability {number}"));
            }
        }
    }
    Ok(())
}

/// The kernel's number of a capability (`linux/capability.h`).
fn number(capability: Capability) -> u32 {
    use Capability as C;
    match capability {
        C::Chown => 0,
        C::DacOverride => 1,
        C::DacReadSearch => 2,
        C::Fowner => 3,
        C::Fsetid => 4,
        C::Kill => 5,
        C::Setgid => 6,
        C::Setuid => 7,
        C::Setpcap => 8,
        C::LinuxImmutable => 9,
        C::NetBindService => 10,
        C::NetBroadcast => 11,
        C::NetAdmin => 12,
        C::NetRaw => 13,
        C::IpcLock => 14,
        C::IpcOwner => 15,
        C::SysModule => 16,
        C::SysRawio => 17,
        C::SysChroot => 18,
        C::SysPtrace => 19,
        C::SysPacct => 20,
        C::SysAdmin => 21,
        C::SysBoot => 22,
        C::SysNice => 23,
        C::SysResource => 24,
        C::SysTime => 25,
        C::SysTtyConfig => 26,
        C::Mknod => 27,
        C::Lease => 28,
        C::AuditWrite => 29,
        C::AuditControl => 30,
        C::Setfcap => 31,
        C::MacOverride => 32,
        C::MacAdmin => 33,
        C::Syslog => 34,
        C::WakeAlarm => 35,
        C::BlockSuspend => 36,
        C::AuditRead => 37,
        C::Perfmon => 38,
        C::Bpf => 39,
        C::CheckpointRestore => 40,
    }
}

#[allow(clippy::unnecessary_cast, reason = "the type of the numbers differs between C libraries")]
fn resource_number(kind: PosixRlimitType) -> u32 {
    use PosixRlimitType as R;
    (match kind {
        R::RlimitCpu => libc::RLIMIT_CPU,
        R::RlimitFsize => libc::RLIMIT_FSIZE,
        R::RlimitData => libc::RLIMIT_DATA,
        R::RlimitStack => libc::RLIMIT_STACK,
        R::RlimitCore => libc::RLIMIT_CORE,
        R::RlimitRss => libc::RLIMIT_RSS,
        R::RlimitNproc => libc::RLIMIT_NPROC,
        R::RlimitNofile => libc::RLIMIT_NOFILE,
        R::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        R::RlimitAs => libc::RLIMIT_AS,
        R::RlimitLocks => libc::RLIMIT_LOCKS,
        R::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        R::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        R::RlimitNice => libc::RLIMIT_NICE,
        R::RlimitRtprio => libc::RLIMIT_RTPRIO,
        R::RlimitRttime => libc::RLIMIT_RTTIME,
    }) as u32
}

/// The environment with what is not text in its place.
pub(super) fn with_raw(environment: &[String], raw: &RawEnvironment) -> Vec<Vec<u8>> {
    let bytes = |variable: &String| {
        let raw = variable.split_once('=').and_then(|(name, _)| Some((name, raw.get(name)?)));
        match raw {
            Some((name, value)) => [name.as_bytes(), b"=", value].concat(),
            None => variable.clone().into_bytes(),
        }
    };
    environment.iter().map(bytes).collect()
}

/// `execve` of the first argument, looked up in the `PATH` of the container's environment.
pub(super) fn execute(arguments: &[String], environment: &[Vec<u8>]) -> Result<Infallible, Error> {
    let Some(program) = arguments.first().filter(|program| !program.is_empty()) else {
        let reason = "no command is given, neither by the container nor by its image";
        return Err(Error::spec("process.args", reason));
    };
    let arguments = c_strings("process.args", arguments)?;
    let c_environment = c_strings("process.env", environment)?;
    let mut refused = None;
    for candidate in candidates(program, environment) {
        let path = c_string("process.args", candidate.as_os_str().as_bytes())?;
        let error = exec::execve(&path, &arguments, &c_environment);
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                // The program is there and its interpreter is not.
                if fs::symlink_metadata(&candidate).is_ok() {
                    refused = Some(format!(
                        "{} exists, but the interpreter or loader that it names does not",
                        candidate.display()
                    ));
                }
            }
            _ => refused = Some(reason_of(&candidate, &error)),
        }
    }
    let reason = refused.unwrap_or_else(|| match program.contains('/') {
        true => "no such file in the container's root filesystem".to_owned(),
        false => "executable file not found in $PATH".to_owned(),
    });
    Err(Error::Executable { program: program.clone(), reason })
}

fn reason_of(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.raw_os_error() {
        Some(libc::EACCES) => {
            format!("permission denied: {path} is not an executable file for this user")
        }
        Some(libc::ENOEXEC) => {
            format!(
                "exec format error: {path} is no program for this machine and no script with #!"
            )
        }
        // No file refuses it so: the filter of system calls is in force by now.
        Some(libc::EPERM) => {
            format!("{path}: {error}; its seccomp profile may refuse execve, or it is set-user-ID")
        }
        _ => format!("{path}: {error}"),
    }
}

fn candidates(program: &str, environment: &[Vec<u8>]) -> Vec<std::path::PathBuf> {
    if program.contains('/') {
        return vec![program.into()];
    }
    let path = environment.iter().rev().find_map(|entry| entry.strip_prefix(b"PATH="));
    path.unwrap_or(b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .split(|byte| *byte == b':')
        .map(|directory| if directory.is_empty() { b"." } else { directory })
        .map(|directory| Path::new(OsStr::from_bytes(directory)).join(program))
        .collect()
}

fn c_strings(field: &str, strings: &[impl AsRef<[u8]>]) -> Result<Vec<CString>, Error> {
    strings.iter().map(|string| c_string(field, string.as_ref())).collect()
}

fn c_string(field: &str, bytes: &[u8]) -> Result<CString, Error> {
    CString::new(bytes).map_err(|_| Error::spec(field, "holds a zero byte"))
}

#[cfg(test)]
mod tests {
    use super::candidates;

    #[test]
    fn programs_are_looked_up_in_the_containers_path() {
        let environment = ["PATH=/a", "PATH=/b:/c"].map(|entry| entry.as_bytes().to_vec());
        let paths: Vec<_> =
            candidates("x", &environment).iter().map(|p| p.display().to_string()).collect();
        assert_eq!(paths, ["/b/x", "/c/x"]);
        assert_eq!(candidates("./x", &environment).len(), 1);
    }
}
