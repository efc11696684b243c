//! The life of pods: one after another, and many at once.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Context;
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::{
    args::Args,
    measure::{Figures, Floor, millis},
    pods::{Lab, Network, Pod, Times},
};

/// Pods whose times are not counted.
const WARM_UP: usize = 3;

/// One pod after another.
pub async fn measure(
    args: &Args,
    lab: &Lab,
    network: Network,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let kind = network.name();
    eprintln!("  {} pods, one after another, {kind}", args.count);
    for _ in 0..WARM_UP {
        let pod = lab.start(network, &mut Times::default()).await?;
        lab.exec(&pod, &mut Vec::new()).await?;
        lab.end(pod, &mut Times::default()).await?;
    }
    let mut times = Times::default();
    let before = lab.usage.cpu()?;
    for _ in 0..args.count {
        let pod = lab.start(network, &mut times).await?;
        lab.end(pod, &mut times).await?;
    }
    let cpu = lab.usage.cpu()?.saturating_sub(before);
    add(figures, kind, &times);
    let each = millis(cpu) / args.count.max(1) as f64;
    figures.value(format!("CPU time per pod life, {kind}"), "ms", each, Some(Floor::PodCpu));
    execs(args, lab, network, figures).await
}

fn add(figures: &mut Figures, kind: &str, times: &Times) {
    let floor = Some(Floor::PodTime);
    let start = [&times.run, &times.create, &times.start];
    let whole = sums(&start);
    let end = sums(&[&times.stop, &times.remove]);
    for (name, samples) in [
        ("RunPodSandbox", &times.run),
        ("CreateContainer", &times.create),
        ("StartContainer", &times.start),
        ("pod start (the three)", &whole),
        ("StopPodSandbox", &times.stop),
        ("RemovePodSandbox", &times.remove),
        ("pod end (the two)", &end),
    ] {
        figures.times(format!("{name}, {kind}"), samples, floor);
    }
}

/// The time of all steps together, pod by pod.
pub fn sums(steps: &[&Vec<Duration>]) -> Vec<Duration> {
    let pods = steps.iter().map(|step| step.len()).min().unwrap_or(0);
    (0..pods).map(|pod| steps.iter().map(|step| step[pod]).sum()).collect()
}

async fn execs(
    args: &Args,
    lab: &Lab,
    network: Network,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let pod = lab.start(network, &mut Times::default()).await?;
    for _ in 0..WARM_UP {
        lab.exec(&pod, &mut Vec::new()).await?;
    }
    let mut times = Vec::new();
    let before = lab.usage.cpu()?;
    for _ in 0..args.execs {
        lab.exec(&pod, &mut times).await?;
    }
    let cpu = lab.usage.cpu()?.saturating_sub(before);
    lab.end(pod, &mut Times::default()).await?;
    let kind = network.name();
    figures.times(format!("ExecSync of true, {kind}"), &times, Some(Floor::ExecTime));
    let each = millis(cpu) / args.execs.max(1) as f64;
    figures.value(format!("CPU time per exec, {kind}"), "ms", each, Some(Floor::ExecCpu));
    Ok(())
}

/// Many pods at once.
pub async fn measure_parallel(args: &Args, lab: &Lab, figures: &mut Figures) -> anyhow::Result<()> {
    let count = args.count.max(args.parallel);
    eprintln!("  {count} pods, {} at once", args.parallel);
    let begin = Instant::now();
    let (pods, times) = start_many(args, lab, count).await?;
    let started = begin.elapsed();
    let whole = sums(&[&times.run, &times.create, &times.start]);
    let parallel = args.parallel;
    figures.times(format!("pod start, {parallel} at once"), &whole, Some(Floor::PodTime));
    let rate = count as f64 / started.as_secs_f64();
    figures.value(format!("pods started, {parallel} at once"), "1/s", rate, None);
    let begin = Instant::now();
    end_many(args, lab, pods).await?;
    let rate = count as f64 / begin.elapsed().as_secs_f64();
    figures.value(format!("pods ended, {parallel} at once"), "1/s", rate, None);
    Ok(())
}

/// Starts pods, as many at once as asked for.
pub async fn start_many(args: &Args, lab: &Lab, count: usize) -> anyhow::Result<(Vec<Pod>, Times)> {
    let left = Arc::new(Mutex::new(count));
    let take = || {
        let mut left = left.lock().expect("no holder panics");
        *left = left.checked_sub(1)?;
        Some(())
    };
    let mut workers: FuturesUnordered<_> = (0..args.parallel.max(1))
        .map(|_| async {
            let (mut pods, mut times) = (Vec::new(), Times::default());
            while take().is_some() {
                pods.push(lab.start(Network::Pod, &mut times).await?);
            }
            anyhow::Ok((pods, times))
        })
        .collect();
    let (mut pods, mut times) = (Vec::new(), Times::default());
    while let Some(worker) = workers.next().await {
        let (more, part) = worker.context("starting pods at once")?;
        pods.extend(more);
        times.run.extend(part.run);
        times.create.extend(part.create);
        times.start.extend(part.start);
    }
    Ok((pods, times))
}

/// Ends pods, as many at once as asked for.
pub async fn end_many(args: &Args, lab: &Lab, pods: Vec<Pod>) -> anyhow::Result<()> {
    let results: Vec<anyhow::Result<()>> = futures_util::stream::iter(pods)
        .map(|pod| async { lab.end(pod, &mut Times::default()).await })
        .buffer_unordered(args.parallel.max(1))
        .collect()
        .await;
    results.into_iter().collect::<anyhow::Result<()>>().context("ending pods at once")
}
