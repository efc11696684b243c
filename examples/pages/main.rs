// SPDX-License-Identifier: Apache-2.0
//! Writes what packages have besides the programs, from the command line itself: manual pages
//! and completions. The daemon has none of this, so that it stays small.

mod pages;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

/// Write manual pages and completions.
#[derive(Debug, Parser)]
struct Args {
    /// The directory to write to, which gets the directories man, bash, zsh and fish
    directory: PathBuf,
}

fn main() -> ExitCode {
    match pages::write(&Args::parse().directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("criquet-pages: {error}");
            ExitCode::FAILURE
        }
    }
}
