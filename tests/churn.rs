//! Random lives of pods, while the daemon, monitors and containers are killed at random, and
//! then the proof that nothing is left: not on the machine, not in the database, not in the
//! daemon.
//!
//! `CRIQUET_SOAK_MINUTES` says how long; without it, one minute. The seed is printed, and
//! `CRIQUET_SOAK_SEED` repeats it, as far as the machine's own timing lets it.

mod common;

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use common::{Node, answered, eventually, leaks, random::Random, requests};
use criquet::cri::v1::{self, runtime_service_client::RuntimeServiceClient};
use rustix::process::{Pid, Signal, kill_process};
use tonic::{Status, transport::Channel};

/// Lives that go on at the same time.
const LIVES: u64 = 4;

/// What a daemon may have more than before, in KiB: allocators keep some for later.
const MEMORY_MARGIN: u64 = 24 * 1024;

/// What workers and the killer share.
struct Churn {
    is_over: AtomicBool,
    lives: AtomicU64,
    calls: AtomicU64,
    failed: AtomicU64,
}

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_random_lives_and_deaths() {
    requires_root!();
    let minutes = number_of("CRIQUET_SOAK_MINUTES").unwrap_or(1);
    let seed = number_of("CRIQUET_SOAK_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("CRIQUET_SOAK_SEED={seed}");
    let mut node = Node::start_with("warm_monitors = 1").await;
    let churn = Arc::new(Churn {
        is_over: AtomicBool::new(false),
        lives: AtomicU64::new(0),
        calls: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    });
    let lives: Vec<_> = (0..LIVES)
        .map(|number| {
            let life = Life {
                churn: Arc::clone(&churn),
                runtime: node.runtime.clone(),
                random: Random::new(seed.wrapping_add(number + 1)),
                name: format!("life{number}"),
                template: requests::sandbox(&node, "x"),
            };
            tokio::spawn(life.live())
        })
        .collect();
    let mut random = Random::new(seed);
    let mut kills: BTreeMap<&str, u64> = BTreeMap::new();
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(100 + random.below(900))).await;
        let what = kill_something(&mut node, &mut random).await;
        *kills.entry(what).or_default() += 1;
    }
    churn.is_over.store(true, Ordering::Relaxed);
    for life in lives {
        answered("the end of a life", life).await.unwrap();
    }
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (lives, calls) = (count(&churn.lives), count(&churn.calls));
    println!("{lives} pods, {calls} calls, {} of them failed; {kills:?}", count(&churn.failed));
    assert!(lives > 10 * minutes, "it was no test: {lives} pods");
    node.kill_daemon();
    node.start_daemon().await;
    for pod in node.pods(v1::PodSandboxFilter::default()).await {
        answered("RemovePodSandbox", node.remove_pod(&pod.id)).await.unwrap();
    }
    nothing_is_left(&node).await;
    a_daemon_does_not_grow(&mut node).await;
    nothing_is_left(&node).await;
}

/// Ends the daemon, a monitor or the first process of a container; the next daemon is there
/// when this returns.
async fn kill_something(node: &mut Node, random: &mut Random) -> &'static str {
    let (what, pids) = match random.below(4) {
        0 => {
            node.kill_daemon();
            // Pods go on by themselves for a while.
            tokio::time::sleep(Duration::from_millis(random.below(300))).await;
            node.start_daemon().await;
            return "daemons";
        }
        1 => ("monitors", node.monitors()),
        _ => ("containers", leaks::traces(node).processes),
    };
    if let Some(pid) = pids.get(random.below(pids.len().max(1) as u64) as usize)
        && let Some(pid) = Pid::from_raw(*pid)
    {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::KILL);
    }
    what
}

/// One pod after the other, each with a life of its own.
struct Life {
    churn: Arc<Churn>,
    runtime: RuntimeServiceClient<Channel>,
    random: Random,
    name: String,
    template: v1::PodSandboxConfig,
}

impl Life {
    async fn live(mut self) {
        for attempt in 0.. {
            if self.churn.is_over.load(Ordering::Relaxed) {
                return;
            }
            let pod = self.be_born(attempt).await;
            let Some(pod) = pod else { continue };
            // What fails is the business of those who die; that it ends is ours.
            let _ = self.grow_up(&pod).await;
            if self.random.below(2) == 0 {
                let request = v1::StopPodSandboxRequest { pod_sandbox_id: pod.clone() };
                let mut runtime = self.runtime.clone();
                let _ = self.call(runtime.stop_pod_sandbox(request)).await;
            }
            self.die(&pod).await;
            self.churn.lives.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn call<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Status> {
        let answer = answered("a call", call).await;
        self.churn.calls.fetch_add(1, Ordering::Relaxed);
        if answer.is_err() {
            self.churn.failed.fetch_add(1, Ordering::Relaxed);
        }
        answer.map(tonic::Response::into_inner)
    }

    async fn be_born(&mut self, attempt: u32) -> Option<String> {
        let mut config = self.template.clone();
        config.metadata = Some(v1::PodSandboxMetadata {
            name: self.name.clone(),
            uid: self.name.clone(),
            namespace: "churn".to_owned(),
            attempt,
        });
        if self.random.below(4) == 0 {
            let linux = config.linux.get_or_insert_default();
            let security = linux.security_context.get_or_insert_default();
            security.namespace_options = Some(v1::NamespaceOption {
                pid: v1::NamespaceMode::Pod.into(),
                ..Default::default()
            });
        }
        if self.random.below(4) == 0 {
            config.port_mappings = vec![v1::PortMapping {
                container_port: 80,
                host_port: 20_000 + self.random.below(10_000) as i32,
                ..Default::default()
            }];
        }
        let request = v1::RunPodSandboxRequest { config: Some(config), ..Default::default() };
        let mut runtime = self.runtime.clone();
        let answer = self.call(runtime.run_pod_sandbox(request)).await;
        if answer.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        answer.ok().map(|answer| answer.pod_sandbox_id)
    }

    async fn grow_up(&mut self, pod: &str) -> Result<(), Status> {
        let mut runtime = self.runtime.clone();
        for number in 0..=self.random.below(3) {
            let script = match self.random.below(3) {
                0 => "exit 3",
                1 => "trap 'exit 0' TERM; while :; do echo x; usleep 20000; done",
                _ => "sleep 1000",
            };
            let mut config = requests::script(&format!("c{number}"), script);
            requests::security(&mut config).namespace_options = None;
            let request = v1::CreateContainerRequest {
                pod_sandbox_id: pod.to_owned(),
                config: Some(config),
                sandbox_config: None,
            };
            let id = self.call(runtime.create_container(request)).await?.container_id;
            let request = v1::StartContainerRequest { container_id: id.clone() };
            self.call(runtime.start_container(request)).await?;
            let request = v1::ExecSyncRequest {
                container_id: id.clone(),
                cmd: vec!["true".to_owned()],
                timeout: 5,
            };
            // One that has ended executes nothing.
            let _ = self.call(runtime.exec_sync(request)).await;
            match self.random.below(4) {
                0 => {
                    let request = v1::StopContainerRequest { container_id: id, timeout: 1 };
                    self.call(runtime.stop_container(request)).await?;
                }
                1 => {
                    let request = v1::RemoveContainerRequest { container_id: id };
                    self.call(runtime.remove_container(request)).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn die(&self, pod: &str) {
        let mut runtime = self.runtime.clone();
        let end = Instant::now() + Duration::from_secs(40);
        loop {
            let request = v1::RemovePodSandboxRequest { pod_sandbox_id: pod.to_owned() };
            let Err(error) = self.call(runtime.remove_pod_sandbox(request)).await else { return };
            assert!(Instant::now() < end, "it cannot be removed: {error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn nothing_is_left(node: &Node) {
    leaks::assert_nothing_left(node).await;
    eventually("no monitor is left but those that wait", async || node.monitors().len() <= 2).await;
    let rows = || -> Vec<String> {
        let database = rusqlite::Connection::open(node.path("root/state.db")).unwrap();
        let of_pods = "('sandboxes', 'containers', 'addresses', 'networks', 'broken')";
        let query = format!(
            "SELECT collection || '/' || key FROM records \
                             WHERE collection IN {of_pods}"
        );
        let mut statement = database.prepare(&query).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    eventually("no row is left", async || rows().is_empty()).await;
    let sockets = || fs::read_dir(node.path("state/pool")).unwrap().count();
    // One that was taken, one that is being made.
    eventually("no sockets but of monitors that wait", async || sockets() <= 2).await;
    let knows_pods = || {
        let output = node.inside("nft").args(["list", "ruleset"]).output().unwrap();
        let rules = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut elements = rules.lines().filter(|line| line.contains("elements"));
        // The subnets of the pods are no pods.
        elements.any(|line| !line.contains('/'))
    };
    eventually("the packet filter knows no pod", async || !knows_pods()).await;
}

/// Pods that come and go leave nothing in the daemon.
async fn a_daemon_does_not_grow(node: &mut Node) {
    let round = async |node: &mut Node, name: &str, pods: u32| {
        for number in 0..pods {
            let pod = node.pod(&format!("{name}{number}")).await;
            node.launch(&pod, requests::script("c", "sleep 1000")).await;
            node.remove_pod(&pod).await.unwrap();
        }
    };
    round(node, "before", 40).await;
    let descriptors =
        |node: &Node| fs::read_dir(format!("/proc/{}/fd", node.daemon_pid())).unwrap().count();
    let memory = |node: &Node| -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", node.daemon_pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let (before, memory_before) = (descriptors(node), memory(node));
    round(node, "after", 80).await;
    eventually("no descriptor is left", async || descriptors(node) <= before + 2).await;
    let after = memory(node);
    assert!(after < memory_before + MEMORY_MARGIN, "{memory_before} KiB became {after} KiB");
}
