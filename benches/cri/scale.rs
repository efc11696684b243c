//! The same figures with ever more pods of two containers that run, up to so many as are asked
//! for: whether a full node is as fast as an empty one.

use std::time::{Duration, Instant};

use anyhow::Context;
use criquet::cri::v1::{ContainerFilter, ListContainersRequest, ListPodSandboxRequest};
use futures_util::stream::{StreamExt, TryStreamExt};

use crate::{
    args::Args,
    lives::{end_many, start_many, sums},
    measure::{Figures, millis, percentile, timed},
    pods::{Lab, Network, Pod, Times},
};

/// Shares of the pods that are asked for, of which the first is a single pod.
const STEPS: [f64; 6] = [0.0, 0.1, 0.25, 0.5, 0.75, 1.0];

/// How often each call is made at each step.
const CALLS: usize = 20;

/// Commands that are executed at once at the last step, as probes that fire together.
const EXECS: usize = 1000;

/// Starts pods step by step, looks at each, and ends them.
pub async fn measure(args: &Args, lab: &Lab, figures: &mut Figures) -> anyhow::Result<()> {
    let mut pods = Vec::new();
    for share in STEPS {
        let count = ((args.scale as f64 * share).round() as usize).max(1);
        if count <= pods.len() {
            continue;
        }
        let more = count - pods.len();
        eprintln!("  {more} more pods, then {count}");
        let begin = Instant::now();
        let (new, _) = start_many(args, lab, more).await?;
        let elapsed = begin.elapsed().as_secs_f64();
        if more > args.parallel {
            let name = format!("pods started, {} at once", args.parallel);
            figures.point(&name, "1/s", count, more as f64 / elapsed);
        }
        for pod in &new {
            lab.add_container(pod).await.context("a second container")?;
        }
        pods.extend(new);
        one_by_one(lab, count, figures).await?;
        lists(lab, count, figures).await?;
        memory(lab, count, figures)?;
    }
    at_once(lab, &pods, figures).await?;
    end_many(args, lab, pods).await
}

/// One more pod, again and again.
async fn one_by_one(lab: &Lab, count: usize, figures: &mut Figures) -> anyhow::Result<()> {
    let (mut times, mut execs) = (Times::default(), Vec::new());
    for _ in 0..CALLS {
        let pod = lab.start(Network::Pod, &mut times).await?;
        lab.exec(&pod, &mut execs).await?;
        lab.end(pod, &mut times).await?;
    }
    let mut p50 = |name: &str, samples: &[Duration]| {
        let values: Vec<f64> = samples.iter().map(|time| millis(*time)).collect();
        if let Some(value) = percentile(&values, 0.5) {
            figures.point(name, "ms", count, value);
        }
    };
    p50("pod start", &sums(&[&times.run, &times.create, &times.start]));
    p50("RunPodSandbox", &times.run);
    p50("CreateContainer", &times.create);
    p50("StartContainer", &times.start);
    p50("pod end", &sums(&[&times.stop, &times.remove]));
    p50("ExecSync of true", &execs);
    Ok(())
}

async fn lists(lab: &Lab, count: usize, figures: &mut Figures) -> anyhow::Result<()> {
    let (mut sandboxes, mut containers, mut one) = (Vec::new(), Vec::new(), Vec::new());
    let some = lab.first_sandbox().await?;
    let filter = ContainerFilter { pod_sandbox_id: some, ..Default::default() };
    let of_one = ListContainersRequest { filter: Some(filter) };
    for _ in 0..CALLS {
        let request = ListPodSandboxRequest::default();
        timed(&mut sandboxes, lab.client.answer("ListPodSandbox", &request)).await?;
        let request = ListContainersRequest::default();
        timed(&mut containers, lab.client.answer("ListContainers", &request)).await?;
        timed(&mut one, lab.client.answer("ListContainers", &of_one)).await?;
    }
    for (name, samples) in [
        ("ListPodSandbox", &sandboxes),
        ("ListContainers", &containers),
        ("ListContainers of one pod", &one),
    ] {
        let values: Vec<f64> = samples.iter().map(|time| millis(*time)).collect();
        if let Some(value) = percentile(&values, 0.5) {
            figures.point(name, "ms", count, value);
        }
    }
    Ok(())
}

fn memory(lab: &Lab, count: usize, figures: &mut Figures) -> anyhow::Result<()> {
    let memory = lab.usage.memory()?;
    figures.point("memory of the daemon", "KiB", count, memory.daemon as f64);
    let each = memory.others as f64 / count as f64;
    figures.point("memory per pod, without the daemon", "KiB", count, each);
    Ok(())
}

/// Many commands at the same moment, over all pods.
async fn at_once(lab: &Lab, pods: &[Pod], figures: &mut Figures) -> anyhow::Result<()> {
    eprintln!("  {EXECS} execs at once");
    let begin = Instant::now();
    let times: Vec<Vec<Duration>> = futures_util::stream::iter(pods.iter().cycle().take(EXECS))
        .map(|pod| async move {
            let mut times = Vec::new();
            lab.exec(pod, &mut times).await?;
            anyhow::Ok(times)
        })
        .buffer_unordered(EXECS)
        .try_collect()
        .await?;
    let elapsed = begin.elapsed();
    let values: Vec<f64> = times.concat().iter().map(|time| millis(*time)).collect();
    let of = format!("{EXECS} execs at once, {} pods", pods.len());
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        if let Some(value) = percentile(&values, share) {
            figures.value(format!("{name} of {of}"), "ms", value, None);
        }
    }
    figures.value(format!("rate of {of}"), "1/s", EXECS as f64 / elapsed.as_secs_f64(), None);
    Ok(())
}
