//! Commands for people on a node: what runs there, how it is, what it says, and a way into it.
//!
//! All of it is asked of the daemon over its socket.

pub mod args;
mod error;
mod exec;
mod find;
mod inspect;
pub(super) mod logs;
mod ps;
mod snapshot;
mod stream;
mod table;
mod terminal;
mod top;

use std::process::ExitCode;

use super::{
    Error,
    config::Config,
    image::{self, Client, args::Node},
    text::WIDTH,
};
use args::{Exec, Inspect, Logs, Ps, Top};
pub use error::Error as NodeError;
pub(super) use snapshot::Pods;

/// Nobody answers, as init scripts say it.
const NOT_RUNNING: u8 = 3;

/// Prints what there is.
pub(super) fn ps(arguments: &Ps) -> Result<ExitCode, Error> {
    exit_code(ps::command(arguments).map(|()| ExitCode::SUCCESS))
}

/// Shows what there is, again and again.
pub(super) fn top(arguments: &Top) -> Result<ExitCode, Error> {
    exit_code(top::command(arguments).map(|()| ExitCode::SUCCESS))
}

/// Prints all that is known of a pod or a container.
pub(super) fn inspect(arguments: &Inspect) -> Result<ExitCode, Error> {
    exit_code(inspect::command(arguments).map(|()| ExitCode::SUCCESS))
}

/// Prints what a container says.
pub(super) fn logs(arguments: &Logs) -> Result<ExitCode, Error> {
    exit_code(logs::command(arguments).map(|()| ExitCode::SUCCESS))
}

/// Runs a command in a container.
pub(super) fn exec(arguments: &Exec) -> Result<ExitCode, Error> {
    exit_code(exec::command(arguments))
}

/// Scripts are to know that nobody answers.
fn exit_code(result: Result<ExitCode, Error>) -> Result<ExitCode, Error> {
    match result {
        Err(Error::Image(error @ image::Error::NoDaemon { .. })) => {
            eprintln!("criquet: {error}");
            Ok(ExitCode::from(NOT_RUNNING))
        }
        other => other,
    }
}

fn open(node: &Node) -> Result<Client, Error> {
    Ok(Client::new(&load(node)?)?)
}

fn load(node: &Node) -> Result<Config, Error> {
    Ok(Config::load_with(node.file.config.as_deref(), &node.overrides())?)
}

/// How wide lines may be.
fn width() -> usize {
    terminal::size().map_or(WIDTH, |(columns, _)| usize::from(columns))
}
