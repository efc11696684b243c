// SPDX-License-Identifier: Apache-2.0
//! A pod's whole life, seen by a CRI client: pull, run, reach, exec, the daemon's sudden death
//! and return, stop, removal; and then what is left of it, which is nothing.
//!
//! `scripts/demo.sh` makes the directories, the registry and the configuration for it.

mod daemon;
mod steps;
mod traces;
mod web;

use std::{path::PathBuf, process::ExitCode};

use anyhow::bail;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use criquet::cli::config::Config;

use steps::Demo;
use traces::Traces;

/// Show a pod's whole life.
#[derive(Debug, Parser)]
pub struct Args {
    /// The daemon's program.
    #[arg(long)]
    pub criquet: PathBuf,
    /// The directory with `criquet.toml`, and everything that the daemon writes.
    #[arg(long)]
    pub work: PathBuf,
    /// The cgroup of the pods, without the leading slash.
    #[arg(long)]
    pub name: String,
    /// The image: a busybox with a page in /var/www.
    #[arg(long)]
    pub image: String,
}

/// Where the demonstration takes place.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// What was asked for.
    pub args: &'a Args,
    /// What the daemon is started with.
    pub config: &'a Config,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(&args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let config = Config::load(Some(&args.work.join("criquet.toml")))?;
    let place = Place { args, config: &config };
    let before = Traces::take(&place, None)?;
    let mut demo = Demo::start(place).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let result = tokio::select! {
        result = demo.live() => result,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("terminated")),
    };
    let during = demo.during.take();
    let ended = demo.end().await;
    let after = Traces::settled(&place, &before).await?;
    traces::print(&before, during.as_ref(), &after);
    result?;
    ended?;
    if after != before {
        bail!("something is left behind:\n{}", after.beyond(&before).join("\n"));
    }
    println!("\nNothing is left.");
    Ok(())
}
