//! The log of a container that writes as fast as it can, with rotation.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::ensure;
use criquet::cri::v1::{ContainerState, ContainerStatusRequest, ReopenContainerLogRequest};

use crate::{
    args::Args,
    measure::{Figures, millis},
    pods::{Lab, Network, Pod, Times},
};

/// The length of a line, with its end.
const LINE: usize = 128;

/// MiB of the file that the container writes again and again: little beside its limit.
const PART: usize = 16;

/// How often the log is renamed and opened anew.
const ROTATION: Duration = Duration::from_secs(1);

/// Writes, rotates, and looks at every line.
pub async fn measure(args: &Args, lab: &Lab, figures: &mut Figures) -> anyhow::Result<()> {
    if args.log == 0 {
        return Ok(());
    }
    eprintln!("  {} MiB of logs", args.log);
    let rounds = args.log.div_ceil(PART);
    let lines = rounds * (PART << 20) / LINE;
    let text = "x".repeat(LINE - 1);
    let part = lines / rounds;
    let script = format!(
        "yes {text} | head -n {part} > /tmp/part; for i in $(seq {rounds}); do cat /tmp/part; done"
    );
    let before = lab.usage.cpu()?;
    let start = Instant::now();
    let pod =
        lab.start_command(Network::Pod, &["sh", "-c", &script], &mut Times::default()).await?;
    let rotated = until_it_ends(lab, &pod, start).await?;
    let taken = start.elapsed();
    let cpu = millis(lab.usage.cpu()?.saturating_sub(before));
    let mut found = 0;
    for file in rotated.iter().chain([&pod.log]) {
        found += check(file, &text)?;
        fs::remove_file(file)?;
    }
    ensure!(found == lines, "{found} of {lines} lines are in the log");
    figures.value(
        "log of a fast writer",
        "MiB/s",
        (rounds * PART) as f64 / taken.as_secs_f64(),
        None,
    );
    figures.value("CPU time per MiB of log", "ms", cpu / (rounds * PART) as f64, None);
    lab.end(pod, &mut Times::default()).await
}

async fn until_it_ends(lab: &Lab, pod: &Pod, start: Instant) -> anyhow::Result<Vec<PathBuf>> {
    let mut rotated = Vec::new();
    while is_running(lab, pod).await? {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if start.elapsed() < ROTATION * (rotated.len() as u32 + 1) {
            continue;
        }
        let other = pod.log.with_extension(format!("log.{}", rotated.len()));
        fs::rename(&pod.log, &other)?;
        rotated.push(other);
        let request = ReopenContainerLogRequest { container_id: pod.container.clone() };
        // It may have ended meanwhile.
        let reopened = lab.client.runtime.clone().reopen_container_log(request).await;
        if reopened.is_err() && !pod.log.exists() {
            File::create(&pod.log)?;
        }
    }
    Ok(rotated)
}

async fn is_running(lab: &Lab, pod: &Pod) -> anyhow::Result<bool> {
    let request = ContainerStatusRequest { container_id: pod.container.clone(), verbose: false };
    let status = lab.client.runtime.clone().container_status(request).await?.into_inner().status;
    Ok(status.is_some_and(|status| status.state() != ContainerState::ContainerExited))
}

/// How many lines a file has, each of which must be whole.
fn check(file: &Path, text: &str) -> anyhow::Result<usize> {
    let end = format!(" stdout F {text}");
    let mut count = 0;
    for line in BufReader::new(File::open(file)?).lines() {
        let line = line?;
        ensure!(line.ends_with(&end) && line.len() < end.len() + 40, "a line is torn: {line:?}");
        count += 1;
    }
    Ok(count)
}
