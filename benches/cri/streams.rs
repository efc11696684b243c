//! Streams of exec: the first prompt, and bytes per second.

use std::time::{Duration, Instant};

use anyhow::ensure;
use criquet::cri::v1::ExecRequest;

use crate::{
    args::Args,
    measure::{Figures, millis},
    pods::{Lab, Network, Pod, Times},
    wire::{Protocol, Remote, STDIN, STDOUT, Target, Wanted},
};

/// How often the first prompt is waited for.
const PROMPTS: usize = 30;

/// How much is sent at once, as Go's clients do.
const CHUNK: usize = 32 * 1024;

const PROTOCOLS: [(&str, Protocol); 2] = [
    ("SPDY", Protocol::Spdy("v4.channel.k8s.io")),
    ("WebSocket", Protocol::WebSocket("v4.channel.k8s.io")),
];

/// Measures both in one pod.
pub async fn measure(args: &Args, lab: &Lab, figures: &mut Figures) -> anyhow::Result<()> {
    if args.stream == 0 {
        return Ok(());
    }
    eprintln!("  streams");
    let pod = lab.start(Network::Pod, &mut Times::default()).await?;
    for (name, protocol) in PROTOCOLS {
        let mut times = Vec::new();
        for _ in 0..PROMPTS {
            prompt(lab, &pod, protocol, &mut times).await?;
        }
        figures.times(format!("exec to first prompt, {name}"), &times, None);
    }
    for (name, protocol) in PROTOCOLS {
        let before = lab.usage.cpu()?;
        let start = Instant::now();
        cat(lab, &pod, protocol, args.stream << 20).await?;
        let rate = args.stream as f64 / start.elapsed().as_secs_f64();
        let cpu = millis(lab.usage.cpu()?.saturating_sub(before)) / args.stream as f64;
        figures.value(format!("exec of cat, {name}"), "MiB/s", rate, None);
        figures.value(format!("CPU time per MiB of cat, {name}"), "ms", cpu, None);
    }
    lab.end(pod, &mut Times::default()).await
}

async fn open(
    lab: &Lab,
    pod: &Pod,
    command: &str,
    protocol: Protocol,
    tty: bool,
) -> anyhow::Result<Remote> {
    let request = ExecRequest {
        container_id: pod.container.clone(),
        cmd: vec![command.to_owned()],
        tty,
        stdin: true,
        stdout: true,
        stderr: false,
    };
    let url = lab.client.runtime.clone().exec(request).await?.into_inner().url;
    let target = Target { namespace: None, url };
    Ok(Remote::open(&target, protocol, Wanted { stdin: true, stderr: false, tty }).await)
}

async fn prompt(
    lab: &Lab,
    pod: &Pod,
    protocol: Protocol,
    times: &mut Vec<Duration>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut remote = open(lab, pod, "sh", protocol, true).await?;
    remote.until("# ").await;
    times.push(start.elapsed());
    remote.sender.send(STDIN, b"exit\r").await;
    remote.finish().await;
    Ok(())
}

async fn cat(lab: &Lab, pod: &Pod, protocol: Protocol, total: usize) -> anyhow::Result<()> {
    let Remote { mut sender, mut receiver } = open(lab, pod, "cat", protocol, false).await?;
    let sending = tokio::spawn(async move {
        let chunk = [b'x'; CHUNK];
        for _ in 0..total / CHUNK {
            sender.send(STDIN, &chunk).await;
        }
        sender
    });
    let mut received = 0;
    while received < total
        && let Some((channel, bytes)) = receiver.next().await
    {
        ensure!(channel == STDOUT, "{:?}", String::from_utf8_lossy(&bytes));
        received += bytes.len();
    }
    ensure!(received == total, "{received} of {total} bytes came back");
    drop(sending.await?);
    Ok(())
}
