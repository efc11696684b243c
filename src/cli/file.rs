//! The configuration file as every command may name it.

use std::path::PathBuf;

use clap::Args;

/// The configuration file of a command.
#[derive(Debug, Default, Args)]
pub struct File {
    /// The configuration file; its drop-ins are in config.d beside it
    /// [default: /etc/criquet/config.toml, which may be absent]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}
