//! `criquet status`: how a running daemon is and what it is doing, for people and for scripts.

mod text;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use super::{
    Error,
    args::Status,
    config::Config,
    image::{
        self, Client,
        args::{Node, Output},
    },
    output::print,
    paint::Paint,
};
use crate::admin::v1::{MetricsRequest, StatusRequest, StatusResponse};

/// Something is not well.
const NOT_WELL: u8 = 1;

/// Nobody answers, as init scripts say it.
const NOT_RUNNING: u8 = 3;

/// Prints the status; the exit code is a summary.
pub(super) fn command(arguments: &Status) -> Result<ExitCode, Error> {
    let client = open(&arguments.node)?;
    let status = match client.ask(client.admin().status(StatusRequest {})) {
        Ok(status) => status,
        Err(error @ image::Error::NoDaemon { .. }) => {
            eprintln!("criquet: {error}");
            return Ok(ExitCode::from(NOT_RUNNING));
        }
        Err(error) => return Err(error.into()),
    };
    let text = match arguments.output {
        Output::Table => text::text(&status, Paint::of(io::stdout().is_terminal())),
        Output::Json => format!("{:#}\n", serde_json::to_value(&status).unwrap_or_default()),
    };
    print(&text)?;
    Ok(if is_well(&status) { ExitCode::SUCCESS } else { ExitCode::from(NOT_WELL) })
}

/// Prints all figures.
pub(super) fn metrics(node: &Node) -> Result<(), Error> {
    let client = open(node)?;
    print(&client.ask(client.admin().metrics(MetricsRequest {}))?.text)
}

fn open(node: &Node) -> Result<Client, Error> {
    let config = Config::load_with(node.file.config.as_deref(), &node.overrides())?;
    Ok(Client::new(&config)?)
}

/// Whether pods can be made, all pods answer, and nothing is stuck.
fn is_well(status: &StatusResponse) -> bool {
    status.conditions.iter().all(|condition| condition.is_met)
        && status.silent.is_empty()
        && !status.operations.iter().any(|operation| operation.is_stuck)
}
