// SPDX-License-Identifier: Apache-2.0
//! Writes what packages have besides the programs, from the command line itself: manual pages
//! and completions. The daemon has none of this, so that it stays small.

mod configuration;
mod pages;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

/// Write manual pages and completions.
#[derive(Debug, Parser)]
struct Args {
    /// Where to write; a directory gets the directories man, bash, zsh and fish
    path: PathBuf,
    /// Write the page about the configuration, to a file, instead
    #[arg(long)]
    configuration: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let written = match args.configuration {
        true => std::fs::write(&args.path, configuration::page()),
        false => pages::write(&args.path),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("criquet-pages: {error}");
            ExitCode::FAILURE
        }
    }
}
