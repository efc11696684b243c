//! The network of pods: its share of a start and a stop, with host ports, many at once, and how
//! it grows with the pods that run.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    args::Args,
    measure::{Figures, millis, percentile},
    pods::{Lab, Network, Times},
};

/// Pods whose times are not counted.
const WARM_UP: usize = 10;

/// Sandboxes without containers.
pub async fn measure(args: &Args, lab: &Lab, figures: &mut Figures) -> anyhow::Result<()> {
    shares(args, lab, figures).await?;
    at_once(args, lab, figures).await?;
    growth(args, lab, figures).await
}

/// In turn, so that whatever else the machine does meets all kinds alike.
async fn shares(args: &Args, lab: &Lab, figures: &mut Figures) -> anyhow::Result<()> {
    eprintln!("  {} sandboxes of each kind of network, in turn", args.count);
    let kinds = [Network::Host, Network::Pod, Network::Ports];
    let mut all = kinds.map(|_| Times::default());
    for round in 0..args.count + WARM_UP {
        for (kind, times) in kinds.into_iter().zip(&mut all) {
            let mut unused = Times::default();
            let times = if round < WARM_UP { &mut unused } else { times };
            let pod = lab.run(kind, times).await?;
            lab.end_by_id(pod, times).await?;
        }
    }
    for (name, step) in [
        ("RunPodSandbox", (|times| &times.run) as fn(&Times) -> &Vec<Duration>),
        ("StopPodSandbox", |times| &times.stop),
        ("RemovePodSandbox", |times| &times.remove),
    ] {
        for (kind, times) in kinds.into_iter().zip(&all) {
            figures.times(format!("{name}, {}", kind.name()), step(times), None);
        }
        let [host, pod, ports] = [0, 1, 2].map(|kind| median(step(&all[kind])));
        figures.value(format!("{name}, share of the network"), "ms", pod - host, None);
        figures.value(format!("{name}, share of host ports"), "ms", ports - pod, None);
    }
    Ok(())
}

async fn at_once(args: &Args, lab: &Lab, figures: &mut Figures) -> anyhow::Result<()> {
    let parallel = args.parallel.max(1);
    let count = args.count.max(parallel * 10);
    eprintln!("  {count} sandboxes, {parallel} at once");
    for kind in [Network::Host, Network::Pod, Network::Ports] {
        let begin = Instant::now();
        let pods: Vec<String> = stream::iter(0..count)
            .map(|_| async { lab.run(kind, &mut Times::default()).await })
            .buffer_unordered(parallel)
            .try_collect()
            .await?;
        let started = count as f64 / begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        stream::iter(pods)
            .map(|pod| async { lab.end_by_id(pod, &mut Times::default()).await })
            .buffer_unordered(parallel)
            .try_collect::<Vec<()>>()
            .await?;
        let ended = count as f64 / begin.elapsed().as_secs_f64();
        let kind = kind.name();
        figures.value(
            format!("sandboxes started, {parallel} at once, {kind}"),
            "1/s",
            started,
            None,
        );
        figures.value(format!("sandboxes ended, {parallel} at once, {kind}"), "1/s", ended, None);
    }
    Ok(())
}

/// One after the other, and none ends before all run.
async fn growth(args: &Args, lab: &Lab, figures: &mut Figures) -> anyhow::Result<()> {
    let count = args.network;
    eprintln!("  {count} sandboxes that stay");
    for kind in [Network::Host, Network::Pod] {
        let (mut times, mut pods) = (Times::default(), Vec::new());
        for _ in 0..count {
            pods.push(lab.run(kind, &mut times).await?);
        }
        let part = count.min(100);
        for (which, part) in [("first", &times.run[..part]), ("last", &times.run[count - part..])] {
            let name =
                format!("RunPodSandbox, the {which} {} of {count}, {}", part.len(), kind.name());
            figures.times(name, part, None);
        }
        let mut ends = Times::default();
        for pod in pods {
            lab.end_by_id(pod, &mut ends).await?;
        }
        for (which, part) in [("first", &ends.stop[..part]), ("last", &ends.stop[count - part..])] {
            let name =
                format!("StopPodSandbox, the {which} {} of {count}, {}", part.len(), kind.name());
            figures.times(name, part, None);
        }
    }
    Ok(())
}

fn median(times: &[Duration]) -> f64 {
    let times: Vec<f64> = times.iter().map(|time| millis(*time)).collect();
    percentile(&times, 0.5).unwrap_or_default()
}
