// SPDX-License-Identifier: Apache-2.0
//! Measures a CRI runtime from outside, over its socket: `cargo bench --bench cri -- --help`.
//!
//! Any runtime that serves CRI v1 can be measured, and two can be compared. What the kernel
//! alone needs for the same work is measured in the same run ([`floor`]), so that figures of
//! different machines can be set side by side. How each figure is taken stands in [`METHOD`]
//! and is printed with the results.

mod args;
mod client;
mod density;
mod floor;
mod lives;
mod logs;
mod measure;
mod network;
mod plot;
mod pods;
mod pulls;
mod raw;
mod report;
mod restart;
mod scale;
mod streams;
mod usage;
#[path = "../../tests/common/streams/mod.rs"]
mod wire;

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use args::Args;
use client::Client;
use measure::Figures;
use pods::Lab;

/// How the figures are taken; printed and kept with them.
const METHOD: &[&str] = &[
    "Times are taken at the client, one call after another unless said otherwise, after three \
     pods that are not counted.",
    "CPU time is the difference of what the kernel charged to two cgroups: the server's (found \
     by the peer of its socket; shims, monitors, runc and CNI plugins are in it) and the one \
     that all pods of the run are put under. It holds the little that the workload itself uses, \
     which is the same for every runtime, and not what kernel threads do later.",
    "Memory is the PSS of every process in those two cgroups except the workload, which is known \
     by its environment; so it holds the daemon, shims or monitors, and pause processes.",
    "The floor is a clone3 into new mount, UTS, IPC, PID and network namespaces, an overlay \
     mount, pivot_root, execve of a static `true`, and the wait for its end; for execs, a fork, \
     an execve and a wait. It has no daemon, no RPC, no cgroup and no veth.",
    "The first prompt is that of a shell with a terminal, from the call of Exec on. `cat` is sent \
     bytes and sends them back, over SPDY as Go's clients speak it and over a WebSocket with \
     version 4 of the channel protocol; the rate is that of the bytes that came back.",
    "Logs are those of `cat` of a file of short lines, again and again, renamed and opened anew every second; every line \
     is looked at afterwards, and one that is lost or torn is an error. CPU time holds that of \
     the program.",
    "The network's share of a call is the median of its time in pods with a network of their own \
     less that in pods with the host's, which lack a network namespace and its mount as well; pods \
     of all kinds are made in turn and have no containers.",
    "Answers of lists are taken as they come: what it costs to take them apart is the client's \
     affair.",
    "After SIGKILL the daemon is started again by a shell; the time is that from the start of the \
     shell to the first answered ListPodSandbox of a new connection, and to the first list that \
     tells of a container which was killed while no daemon was there.",
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(request) = args.floor_child() {
        // Before there is a runtime: the child side needs a process of one thread.
        return floor::child(&request);
    }
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(bench(&args))
}

async fn bench(args: &Args) -> anyhow::Result<()> {
    let mut floor = None;
    if args.floor_count > 0 {
        eprintln!("the kernel's floor");
        floor =
            floor::measure(args).inspect_err(|error| eprintln!("  not measured: {error:#}")).ok();
    }
    let mut all = Vec::new();
    let endpoints = [Some(&args.endpoint), args.compare.as_ref()];
    for endpoint in endpoints.into_iter().flatten() {
        all.push(runtime(args, endpoint).await.with_context(|| format!("measuring {endpoint}"))?);
    }
    report::print(floor.as_ref(), &all);
    if let Some(path) = &args.plot {
        plot::write(path, &all)?;
    }
    if let Some(path) = &args.json {
        report::write(path, args, floor.as_ref(), &all)?;
    }
    Ok(())
}

/// Measures one runtime, and removes what the run has made however it ends.
async fn runtime(args: &Args, endpoint: &str) -> anyhow::Result<Figures> {
    let client = Client::connect(endpoint).await?;
    let lab = Lab::new(client, args)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let result = tokio::select! {
        result = figures(args, &lab) => result,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("terminated")),
    };
    let cleaned = lab.clean().await;
    match (result, cleaned) {
        (Ok(figures), Ok(())) => Ok(figures),
        (Err(error), Ok(())) => Err(error),
        (Ok(_), Err(error)) => bail!("pods are left behind: {error:#}"),
        (Err(first), Err(second)) => bail!("{first:#}; and pods are left behind: {second:#}"),
    }
}

async fn figures(args: &Args, lab: &Lab) -> anyhow::Result<Figures> {
    let mut figures = Figures::new(lab.client.version().await?);
    eprintln!("{}", figures.runtime);
    if args.network > 0 {
        network::measure(args, lab, &mut figures).await?;
        return Ok(figures);
    }
    lab.client.ensure_image(&args.image).await?;
    if args.scale > 0 {
        scale::measure(args, lab, &mut figures).await?;
        return Ok(figures);
    }
    for network in [pods::Network::Pod, pods::Network::Host] {
        lives::measure(args, lab, network, &mut figures).await?;
    }
    lives::measure_parallel(args, lab, &mut figures).await?;
    streams::measure(args, lab, &mut figures).await?;
    logs::measure(args, lab, &mut figures).await?;
    density::measure(args, lab, &mut figures).await?;
    if lab.client.socket.as_os_str() == args.endpoint.trim_start_matches("unix://") {
        restart::measure(args, lab, &mut figures).await?;
    }
    for image in &args.pull {
        pulls::measure(args, lab, image, &mut figures).await?;
    }
    Ok(figures)
}
