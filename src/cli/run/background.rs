//! `criquet run --detach`: the same command once more, in a session of its own, which is let go
//! once the pod runs.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use super::{args::Run, error::Error};
use crate::{
    cli::{self, output::print},
    play::Plan,
};

/// What the process in the background says once the pod runs: no container's line begins so.
const RUNS: &str = "\u{4}runs";

/// Where it goes on to say what it has to say.
const LOG: &str = "CRIQUET_RUN_LOG";

/// Starts the process, and shows what it says until the pod runs, or has failed to.
pub(super) fn start(arguments: &Run, text: &str, plan: &Plan) -> Result<ExitCode, cli::Error> {
    let place = &arguments.place;
    let directory = &place.directory;
    fs::create_dir_all(directory).map_err(Error::io("create directory", directory))?;
    let log = directory.join(format!("{}-{}.log", plan.namespace, plan.name));
    let program = PathBuf::from("/proc/self/exe");
    let mut command = Command::new(&program);
    command.args(["run", "-", "--background", "--directory"]).arg(directory);
    let node = &place.node;
    if place.own {
        command.arg("--own");
    }
    for (name, value) in [("--config", &node.file.config), ("--root", &node.root)] {
        if let Some(value) = value {
            command.arg(name).arg(value);
        }
    }
    if let Some(listen) = &node.listen {
        command.args(["--listen", listen]);
    }
    for archive in &arguments.import {
        command.arg("--import").arg(archive);
    }
    command.env(LOG, std::path::absolute(&log).map_err(Error::io("find", &log))?);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(Error::io("execute", &program))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(text.as_bytes()).map_err(Error::io("write to", &program))?;
    }
    let output = child.stdout.take().map(BufReader::new);
    for line in output.into_iter().flat_map(BufRead::lines) {
        let line = line.map_err(Error::io("read from", &program))?;
        if line == RUNS {
            print(&format!("{} runs; `criquet stop {}` ends it\n", plan.name, plan.name))?;
            return Ok(ExitCode::SUCCESS);
        }
        print(&format!("{line}\n"))?;
    }
    let status = child.wait().map_err(Error::io("wait for", &program))?;
    // It has said itself why.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// In the background: the pod runs. Whoever has started this goes; what is said from now on is in
/// a file.
pub(super) fn runs() {
    // Whoever has started this may be gone.
    let mut output = io::stdout().lock();
    let _ = writeln!(output, "{RUNS}").and_then(|()| output.flush());
    // A session of its own is not ended with the terminal. One that leads a session has one.
    let _ = rustix::process::setsid();
    let path = std::env::var_os(LOG).map_or_else(|| PathBuf::from("/dev/null"), PathBuf::from);
    let file = File::create(&path).or_else(|_| File::create(Path::new("/dev/null")));
    if let Ok(file) = file {
        let _ = rustix::stdio::dup2_stdout(&file);
        let _ = rustix::stdio::dup2_stderr(&file);
    }
}
