//! How long setups and teardowns take. Ignored as a rule: a measurement, not a judgement.

use std::{
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, Instant},
};

use super::harness::{Host, Pod, eventually, on_a_host, pod_links};

fn median(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 95 / 100])
}

fn measure(parallel: usize, total: usize) {
    let host = Host::new();
    let network = Arc::new(host.network.clone());
    let pods: Vec<Arc<Pod>> = (0..total).map(|n| Arc::new(Pod::new(&format!("p{n}")))).collect();
    let first = Pod::new("first");
    host.set_up(&first);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let begin = Instant::now();
    let (mut setups, mut teardowns) = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for part in 0..parallel {
            let mine: Vec<_> = pods.iter().skip(part).step_by(parallel).cloned().collect();
            let network = network.clone();
            tasks.spawn(async move {
                let mut times = Vec::new();
                for pod in mine {
                    let start = Instant::now();
                    let path = pod.path();
                    network.setup(&pod.request, pod.namespace.as_fd(), &path).await.unwrap();
                    let middle = Instant::now();
                    network.teardown(&pod.request, Some(&path)).await.unwrap();
                    times.push((middle - start, middle.elapsed()));
                }
                times
            });
        }
        tasks.join_all().await.into_iter().flatten().unzip::<_, _, Vec<_>, Vec<_>>()
    });
    let wall = begin.elapsed();
    eprintln!(
        "parallel {parallel}, {total} pods: setup p50, p95 {:?}, teardown {:?}, {:.0} pods/s",
        median(&mut setups),
        median(&mut teardowns),
        total as f64 / wall.as_secs_f64(),
    );
    let begin = Instant::now();
    eventually("devices go", || pod_links() == 1);
    eprintln!("  the last device was gone {:?} later", begin.elapsed());
}

/// Whole lives of pods, a fixed number started each second as a kubelet would.
fn measure_lives(per_second: u32, parallel: usize, total: usize, ports: bool) {
    let host = Host::new();
    host.set_up(&Pod::new("first"));
    let network = Arc::new(host.network.clone());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let begin = Instant::now();
    let (mut setups, mut teardowns) = runtime.block_on(async {
        let slots = Arc::new(tokio::sync::Semaphore::new(parallel));
        let mut tasks = tokio::task::JoinSet::new();
        let mut tick = tokio::time::interval(Duration::from_secs(1) / per_second);
        for number in 0..total {
            tick.tick().await;
            let slot = slots.clone().acquire_owned().await.unwrap();
            let network = network.clone();
            tasks.spawn(async move {
                let make = move || {
                    let pod = Pod::new(&format!("p{number}"));
                    let port = 10_000 + u16::try_from(number).unwrap();
                    if ports { pod.with_port(crate::network::Protocol::Tcp, port, 80) } else { pod }
                };
                let pod = tokio::task::spawn_blocking(make).await.unwrap();
                let start = Instant::now();
                let path = pod.path();
                network.setup(&pod.request, pod.namespace.as_fd(), &path).await.unwrap();
                let setup = start.elapsed();
                let start = Instant::now();
                network.teardown(&pod.request, Some(&path)).await.unwrap();
                drop((pod, slot));
                (setup, start.elapsed())
            });
        }
        tasks.join_all().await.into_iter().unzip::<_, _, Vec<_>, Vec<_>>()
    });
    let rate = total as f64 / begin.elapsed().as_secs_f64();
    eprintln!(
        "{per_second}/s wanted, at most {parallel} at once, host ports {ports}: setup p50, p95 \
         {:?}, teardown {:?}, {rate:.0} pods/s",
        median(&mut setups),
        median(&mut teardowns),
    );
}

#[test]
#[ignore = "a measurement: cargo test --lib network::tests::speed -- --ignored --nocapture"]
fn setup_and_teardown() {
    on_a_host(|| measure(1, 100));
    on_a_host(|| measure(10, 300));
    on_a_host(|| measure_lives(20, 10, 60, false));
    on_a_host(|| measure_lives(100, 10, 300, false));
    on_a_host(|| measure_lives(100, 10, 300, true));
    on_a_host(|| measure_lives(1000, 10, 500, false));
}
