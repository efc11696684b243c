//! Many pods that do nothing: memory, lists, execs, idleness.

use std::time::Duration;

use anyhow::Context;
use criquet::cri::v1::{
    ListContainerStatsRequest, ListContainersRequest, ListPodSandboxMetricsRequest,
    ListPodSandboxRequest, ListPodSandboxStatsRequest,
};

use crate::{
    args::Args,
    lives::{end_many, start_many},
    measure::{Figures, Floor, millis, timed},
    pods::{Lab, Pod},
};

/// How often each list is asked for.
const LISTS: usize = 50;

/// How often statistics are asked for, and how long after one another.
const STATISTICS: usize = 10;
const BETWEEN: Duration = Duration::from_millis(1100);

/// How long what starting has left to be done takes: statistics are looked at for the first time
/// within ten seconds.
const SETTLE: Duration = Duration::from_secs(11);

/// Starts the pods, looks, and ends them.
pub async fn measure(args: &Args, lab: &Lab, figures: &mut Figures) -> anyhow::Result<()> {
    let count = args.density;
    if count == 0 {
        return Ok(());
    }
    eprintln!("  {count} pods that do nothing");
    let (pods, _) = start_many(args, lab, count).await?;
    lists(lab, count, figures).await?;
    execs(args, lab, &pods, figures).await?;
    tokio::time::sleep(SETTLE).await;
    idle(args, lab, &format!("{count} pods"), figures).await?;

    let memory = lab.usage.memory()?;
    let per_pod = |kibibytes: u64| kibibytes as f64 / count as f64;
    let mut value = |name: String, value: f64| figures.value(name, "KiB", value, None);
    value(
        format!("memory per pod, daemon included, {count} pods"),
        per_pod(memory.daemon + memory.others),
    );
    value(format!("memory per pod, without the daemon, {count} pods"), per_pod(memory.others));
    value(format!("memory of the daemon, {count} pods"), memory.daemon as f64);
    value(format!("memory of one workload process, {count} pods"), per_pod(memory.workload));
    let each = memory.processes as f64 / count as f64;
    figures.value(format!("processes per pod of the runtime, {count} pods"), "", each, None);
    statistics(args, lab, &pods, figures).await?;
    end_many(args, lab, pods).await
}

async fn lists(lab: &Lab, count: usize, figures: &mut Figures) -> anyhow::Result<()> {
    let (mut sandboxes, mut containers) = (Vec::new(), Vec::new());
    for _ in 0..LISTS {
        let request = ListPodSandboxRequest::default();
        timed(&mut sandboxes, lab.client.answer("ListPodSandbox", &request)).await?;
        let request = ListContainersRequest::default();
        timed(&mut containers, lab.client.answer("ListContainers", &request)).await?;
    }
    figures.times(format!("ListPodSandbox, {count} pods"), &sandboxes, None);
    figures.times(format!("ListContainers, {count} pods"), &containers, None);
    Ok(())
}

/// With a second container in each of the pods. Each answer is of readings of its own: those of
/// one are used for a second.
async fn statistics(
    args: &Args,
    lab: &Lab,
    pods: &[Pod],
    figures: &mut Figures,
) -> anyhow::Result<()> {
    for pod in pods {
        lab.add_container(pod).await.context("a second container")?;
    }
    let of = format!("{} pods of two containers", pods.len());
    tokio::time::sleep(SETTLE).await;
    idle(args, lab, &of, figures).await?;
    let client = &lab.client;
    let (mut containers, mut sandboxes, mut metrics) = (Vec::new(), Vec::new(), Vec::new());
    let before = lab.usage.cpu()?;
    for _ in 0..STATISTICS {
        let request = ListContainerStatsRequest::default();
        // Not every runtime has them.
        if timed(&mut containers, client.answer("ListContainerStats", &request)).await.is_err() {
            return Ok(());
        }
        tokio::time::sleep(BETWEEN).await;
        let request = ListPodSandboxStatsRequest::default();
        timed(&mut sandboxes, client.answer("ListPodSandboxStats", &request)).await?;
        tokio::time::sleep(BETWEEN).await;
    }
    let cpu = lab.usage.cpu()?.saturating_sub(before);
    let each = millis(cpu) / (2 * STATISTICS) as f64;
    figures.times(format!("ListContainerStats, {of}"), &containers, None);
    figures.times(format!("ListPodSandboxStats, {of}"), &sandboxes, None);
    figures.value(format!("CPU time per list of statistics, {of}"), "ms", each, None);
    let memory = lab.usage.memory()?;
    figures.value(format!("memory of the daemon, {of}"), "KiB", memory.daemon as f64, None);
    let mut size = 0;
    for _ in 0..STATISTICS {
        let request = ListPodSandboxMetricsRequest {};
        match timed(&mut metrics, client.answer("ListPodSandboxMetrics", &request)).await {
            Ok(answer) => size = answer.len(),
            Err(_) => return Ok(()),
        }
        tokio::time::sleep(BETWEEN).await;
    }
    figures.times(format!("ListPodSandboxMetrics, {of}"), &metrics, None);
    let size = size as f64 / 1024.0;
    figures.value(format!("answer of ListPodSandboxMetrics, {of}"), "KiB", size, None);
    Ok(())
}

async fn execs(args: &Args, lab: &Lab, pods: &[Pod], figures: &mut Figures) -> anyhow::Result<()> {
    let mut times = Vec::new();
    for pod in pods.iter().cycle().take(args.execs) {
        lab.exec(pod, &mut times).await?;
    }
    figures.times(format!("ExecSync of true, {} pods", pods.len()), &times, Some(Floor::ExecTime));
    Ok(())
}

async fn idle(args: &Args, lab: &Lab, of: &str, figures: &mut Figures) -> anyhow::Result<()> {
    let before = lab.usage.cpu()?;
    tokio::time::sleep(Duration::from_secs(args.idle)).await;
    let cpu = lab.usage.cpu()?.saturating_sub(before);
    let each = millis(cpu) / args.idle.max(1) as f64;
    figures.value(format!("CPU time per second of idleness, {of}"), "ms", each, None);
    Ok(())
}
