//! The configuration file as every command may name it.

use std::path::PathBuf;

use clap::Args;

use super::config::{Config, Error, Overrides};

/// The configuration file of a command.
#[derive(Debug, Default, Args)]
pub struct File {
    /// The configuration file; its drop-ins are in config.d beside it
    /// [default: /etc/criquet/config.toml, which may be absent]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The configuration file, and where a daemon keeps things instead of where it says.
#[derive(Debug, Default, Args)]
pub struct Places {
    /// The configuration.
    #[command(flatten)]
    pub file: File,
    /// Where images and containers are kept, instead of the configured root
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Where sockets and running pods are kept, instead of the configured state
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

impl Places {
    /// What these arguments decide instead of the configuration.
    pub fn overrides(&self) -> Overrides {
        Overrides { root: self.root.clone(), state: self.state.clone(), ..Overrides::default() }
    }

    /// The configuration as it takes effect with them.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load(&self, listen: Option<&String>) -> Result<Config, Error> {
        let overrides = Overrides { listen: listen.cloned(), ..self.overrides() };
        Config::load_with(self.file.config.as_deref(), &overrides)
    }
}
