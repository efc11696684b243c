//! `criquet config`.

use super::{Config, SAMPLE};
use crate::cli::{Error, args, output::print};

/// Prints or validates the configuration.
pub(in crate::cli) fn command(command: args::Config) -> Result<(), Error> {
    match command {
        args::Config::Default => print(SAMPLE),
        args::Config::Dump(file) => {
            let config = Config::load(file.config.as_deref())?;
            print(&toml::to_string(&config)?)
        }
        args::Config::Validate(file) => {
            Config::load(file.config.as_deref())?;
            print("the configuration is valid\n")
        }
    }
}
