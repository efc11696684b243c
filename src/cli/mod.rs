//! The command line: from arguments to a command, and from its outcome to an exit code.
//!
//! Entry point: `main`. Errors are printed here and nowhere else, with all their sources.

pub mod args;
pub mod check;
pub mod config;
pub mod doctor;
mod file;
mod image;
mod log;
mod network;
pub mod node;
mod output;
mod paint;
pub mod reset;
pub mod run;
pub mod serve;
mod status;
mod text;
mod time;

use std::{io, process::ExitCode, time::Duration};

use clap::Parser;
use thiserror::Error;

use args::{Arguments, Command};
use config::Config;

/// `EX_USAGE`: the command line or the configuration is wrong.
const USAGE: u8 = 64;

/// What a command can fail with.
#[derive(Debug, Error)]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The configuration cannot be written as TOML.
    #[error("cannot write the configuration as TOML")]
    Dump(#[from] toml::ser::Error),
    /// No threads to work with.
    #[error("cannot start the async runtime")]
    Runtime(#[source] io::Error),
    /// The daemon.
    #[error(transparent)]
    Serve(#[from] Box<serve::Error>),
    /// The image store.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// Commands for people on a node.
    #[error(transparent)]
    Node(#[from] node::NodeError),
    /// Pods from manifests.
    #[error(transparent)]
    Run(#[from] run::RunError),
    /// Networks.
    #[error(transparent)]
    Network(crate::network::Error),
    /// The end of all pods.
    #[error(transparent)]
    Reset(#[from] reset::Error),
    /// What belongs to nobody.
    #[error(transparent)]
    Doctor(#[from] doctor::Error),
    /// Standard output.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl Error {
    fn exit_code(&self) -> ExitCode {
        match self {
            Error::Config(_) => ExitCode::from(USAGE),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    if let Some(code) = crate::image::worker_main() {
        return code;
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors; nothing is left to do if they cannot be printed.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    run(arguments.command).unwrap_or_else(|error| {
        eprintln!("criquet: {}", crate::kind::chain(&error));
        error.exit_code()
    })
}

fn run(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Serve(arguments) => {
            let load = move || arguments.places.load(arguments.listen.as_ref());
            serve(load()?, Box::new(load))?;
        }
        Command::Check(arguments) => {
            let config = Config::load(arguments.file.config.as_deref())?;
            return check::command(&config, arguments.json);
        }
        Command::Doctor(arguments) => return doctor::command(&arguments),
        Command::Config(command) => config::command(command)?,
        Command::Ps(arguments) => return node::ps(&arguments),
        Command::Top(arguments) => return node::top(&arguments),
        Command::Inspect(arguments) => return node::inspect(&arguments),
        Command::Logs(arguments) => return node::logs(&arguments),
        Command::Exec(arguments) => return node::exec(&arguments),
        Command::Run(arguments) => return run::run(&arguments),
        Command::Stop(arguments) => return run::stop(&arguments),
        Command::Status(arguments) => return status::command(&arguments),
        Command::Metrics(node) => status::metrics(&node)?,
        Command::Image(command) => image::command(command)?,
        Command::Network(command) => network::command(command)?,
        Command::Reset(arguments) => return reset::command(&arguments),
    }
    Ok(ExitCode::SUCCESS)
}

/// How long threads may take to end after the daemon has served.
const THREADS_END: Duration = Duration::from_secs(1);

/// Arenas of the allocator on a node with many processors: enough that threads rarely meet.
const ARENAS: usize = 4;

fn serve(config: Config, load: serve::Load) -> Result<(), Error> {
    let mut settings = config.settings()?;
    // While there is one thread.
    settings.user_namespaces = check::has_user_namespaces(&config.root);
    let set_level = log::start(&config.log_level);
    let reload = serve::Reload { load, set_level, config };
    if let Err(error) = crate::sys::descriptors::raise() {
        tracing::warn!(%error, "cannot raise the limit of descriptors; it stays as it is");
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    crate::sys::memory::share_arenas(processors.min(ARENAS) as u8);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    let served = runtime.block_on(serve::run(settings, reload));
    // What was called off tidies up; a thread that hangs on a disk ends with the process.
    runtime.shutdown_timeout(THREADS_END);
    Ok(served.map_err(Box::new)?)
}
