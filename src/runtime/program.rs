//! Runs a program of the node to its end, within a time, and keeps the end of what it says.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Seek, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{MemfdFlags, memfd_create},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open},
};

/// What is kept of the program's output, in bytes.
const KEPT: usize = 1024;

/// What is run.
pub(super) struct Program<'a> {
    pub path: &'a Path,
    /// Its own name first; empty for its path alone.
    pub arguments: &'a [String],
    /// All of its environment, `NAME=VALUE`.
    pub environment: &'a [String],
    /// What it reads.
    pub input: &'a [u8],
    /// How long it may take.
    pub limit: Duration,
    /// A socket whose other end is closed when nobody wants it any more.
    pub over: Option<BorrowedFd<'a>>,
}

/// Why a program did not do what it should; goes on after its name.
#[derive(Debug)]
pub(super) enum Failure {
    Start(io::Error),
    Watch(io::Error),
    Status(ExitStatus, String),
    Timeout(Duration, String),
    Unwanted,
}

impl Failure {
    pub(super) fn is_timeout(&self) -> bool {
        matches!(self, Failure::Timeout(..))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let output = match self {
            Failure::Start(error) => return write!(formatter, "cannot be executed: {error}"),
            Failure::Watch(error) => return write!(formatter, "cannot be watched: {error}"),
            Failure::Unwanted => return formatter.write_str("was ended with the start"),
            Failure::Status(status, output) => {
                match (status.code(), status.signal()) {
                    (Some(code), _) => write!(formatter, "failed with exit code {code}")?,
                    (None, signal) => {
                        write!(formatter, "was ended by signal {}", signal.unwrap_or_default())?;
                    }
                }
                output
            }
            Failure::Timeout(limit, output) => {
                let seconds = limit.as_secs();
                write!(formatter, "did not end within its {seconds} seconds, and was killed")?;
                output
            }
        };
        match output.trim() {
            "" => formatter.write_str(", and said nothing"),
            output => write!(formatter, "; it said last: {output}"),
        }
    }
}

/// Runs the program. What it leaves behind of its own process group is killed only where the
/// program itself was.
pub(super) fn run(program: &Program<'_>) -> Result<(), Failure> {
    let (output, theirs) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| Failure::Start(e.into()))?;
    let mut child = start(program, theirs.into()).map_err(Failure::Start)?;
    let mut said = Said { pipe: Some(output.into()), kept: Vec::new() };
    let watched = watch(&child, &mut said, program);
    if !matches!(watched, Ok(Ended::Itself)) {
        if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = child.kill();
    }
    let status = child.wait().map_err(Failure::Watch)?;
    said.read();
    match watched.map_err(Failure::Watch)? {
        Ended::Itself if status.success() => Ok(()),
        Ended::Itself => Err(Failure::Status(status, said.text())),
        Ended::Late => Err(Failure::Timeout(program.limit, said.text())),
        Ended::Unwanted => Err(Failure::Unwanted),
    }
}

fn start(program: &Program<'_>, output: File) -> io::Result<Child> {
    // A file and no pipe: the program need not read it, and nobody has to wait for that.
    let mut input = File::from(memfd_create("state", MemfdFlags::CLOEXEC)?);
    input.write_all(program.input)?;
    input.rewind()?;
    let mut command = Command::new(program.path);
    if let Some((name, arguments)) = program.arguments.split_first() {
        command.arg0(name).args(arguments);
    }
    let variables = program.environment.iter().filter_map(|variable| variable.split_once('='));
    command
        .env_clear()
        .envs(variables)
        .current_dir("/")
        .process_group(0)
        .stdin(input)
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
}

enum Ended {
    Itself,
    Late,
    Unwanted,
}

fn watch(child: &Child, said: &mut Said, program: &Program<'_>) -> io::Result<Ended> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let end = Instant::now() + program.limit;
    if let Some(pipe) = &said.pipe {
        rustix::io::ioctl_fionbio(pipe, true)?;
    }
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Ended::Late);
        }
        let mut watched = vec![PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
        let over = program.over.map(|over| PollFd::from_borrowed_fd(over, PollFlags::empty()));
        watched.extend(over);
        let pipe = said.pipe.as_ref();
        watched.extend(pipe.map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)));
        match poll(&mut watched, left.try_into().ok().as_ref()) {
            Err(rustix::io::Errno::INTR) => continue,
            polled => polled?,
        };
        let has_ended = !watched[0].revents().is_empty();
        let is_unwanted = program.over.is_some() && !watched[1].revents().is_empty();
        drop(watched);
        said.read();
        if has_ended {
            return Ok(Ended::Itself);
        }
        if is_unwanted {
            return Ok(Ended::Unwanted);
        }
    }
}

/// What a program says: the end of it.
struct Said {
    pipe: Option<File>,
    kept: Vec<u8>,
}

impl Said {
    /// Takes what is there now.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        // No more than a pipe holds: somebody may write without end.
        for _ in 0..16 {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => self.pipe = None,
                Ok(length) => self.kept.extend(&buffer[..length]),
            }
            let surplus = self.kept.len().saturating_sub(KEPT);
            self.kept.drain(..surplus);
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::{os::fd::AsFd, path::Path, time::Duration};

    use super::{Failure, Program, run};

    fn shell(script: &str, limit: Duration) -> Result<(), Failure> {
        let arguments = ["sh", "-c", script].map(str::to_owned);
        run(&Program {
            path: Path::new("/bin/sh"),
            arguments: &arguments,
            environment: &["A=1".to_owned()],
            input: b"state",
            limit,
            over: None,
        })
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_program_has_its_input_and_environment_alone() {
        shell("test \"$(cat)\" = state && test $A = 1 && test -z \"$HOME\"", LONG).unwrap();
        let failure = shell("seq 10000; echo words >&2; exit 3", LONG).unwrap_err().to_string();
        assert!(failure.starts_with("failed with exit code 3; it said last:"), "{failure}");
        assert!(failure.ends_with("words") && failure.len() < 1200, "{failure}");
        // Somebody that it leaves behind is not waited for.
        shell("sleep 1000 & exit 0", LONG).unwrap();
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed_with_what_it_started() {
        let failure = shell("echo here; sleep 1000 & wait", Duration::from_millis(200));
        let failure = failure.unwrap_err();
        assert!(failure.is_timeout());
        assert!(failure.to_string().ends_with("here"), "{failure}");
    }

    #[test]
    fn a_program_that_nobody_wants_is_killed() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(theirs);
        let arguments = ["sh", "-c", "sleep 1000"].map(str::to_owned);
        let program = Program {
            path: Path::new("/bin/sh"),
            arguments: &arguments,
            environment: &[],
            input: b"",
            limit: LONG,
            over: Some(ours.as_fd()),
        };
        assert!(matches!(run(&program), Err(Failure::Unwanted)));
        let program = Program { path: Path::new("/does/not/exist"), ..program };
        assert!(run(&program).unwrap_err().to_string().starts_with("cannot be executed"));
    }
}
