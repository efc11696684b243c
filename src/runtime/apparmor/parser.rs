//! The program that compiles profiles and gives them to the kernel.

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::runtime::error::{During, Error};

/// Where it may be.
const PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// How long it may take: emulated and busy machines need seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// What is kept of its complaints, in bytes.
const MAX_WORDS: u64 = 2048;

/// The program `apparmor_parser`; none where it is not installed.
pub fn find() -> Option<PathBuf> {
    PLACES
        .into_iter()
        .map(|directory| Path::new(directory).join("apparmor_parser"))
        .find(|path| path.is_file())
}

/// Loads a profile, in the place of one of the same name.
pub(super) fn load(name: &str, text: &str) -> Result<(), Error> {
    let refused = |reason: String| Error::Profile { profile: name.to_owned(), reason };
    let program = find().ok_or_else(|| {
        refused("there is no apparmor_parser; install the package apparmor on this node".to_owned())
    })?;
    let mut child = Command::new(&program)
        // Replaces, and leaves no copy in the cache.
        .args(["--replace", "--skip-cache"])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .during("start", program.display())?;
    // The pipe holds far more than a profile has; where the program reads none of it, what it
    // says tells why.
    let given = child.stdin.take().map(|mut input| input.write_all(text.as_bytes()));
    let ended = wait(&mut child).during("wait for", program.display())?;
    let mut words = String::new();
    if let Some(errors) = child.stderr.take() {
        let _ = errors.take(MAX_WORDS).read_to_string(&mut words);
    }
    match (ended, given) {
        (None, _) => {
            let seconds = LIMIT.as_secs();
            Err(refused(format!("apparmor_parser did not end within {seconds} seconds")))
        }
        (Some(true), Some(Ok(()))) => Ok(()),
        _ => Err(refused(format!("apparmor_parser refuses it: {}", words.trim()))),
    }
}

/// Whether it succeeded; none where it had to be killed.
fn wait(child: &mut Child) -> io::Result<Option<bool>> {
    let pid = Pid::from_raw(child.id().cast_signed()).ok_or(io::ErrorKind::InvalidData)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let end = Instant::now() + LIMIT;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
            Ok(_) => return Ok(Some(child.wait()?.success())),
            Err(error) => return Err(error.into()),
        }
    }
}
