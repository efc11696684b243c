//! The queries of the dashboard and of the alerts, asked of a real Prometheus that scrapes the
//! daemon.

use std::{
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use serde_json::Value;

use crate::{
    common::{Node, eventually},
    http,
    metrics::{CONFIG, life, metrics},
};

const PORT: u16 = 9090;

fn deployed(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// The queries of all panels, as Grafana would ask them.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&deployed("grafana/criquet.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions = targets.map(|target| target["expr"].as_str().unwrap());
    expressions
        .map(|text| text.replace("$__rate_interval", "1m").replace("$instance", ".*"))
        .collect()
}

/// The names of families in a query.
fn names(query: &str) -> Vec<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = query.split(|c| !is_name(c));
    let own = words.filter(|word| word.starts_with("criquet_") || word.starts_with("process_"));
    own.map(str::to_owned).collect()
}

#[tokio::test]
async fn every_name_in_the_dashboard_is_served() {
    requires_root!();
    let mut node = Node::start_with(CONFIG).await;
    let pod = life(&mut node).await;
    let text = metrics(&node).await;
    let mut count = 0;
    for query in queries() {
        for name in names(&query) {
            let is_there = text.lines().any(|line| {
                line.strip_prefix(&name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            });
            assert!(is_there, "{name} of {query} is not in\n{text}");
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
    node.remove_pod(&pod).await.unwrap();
}

/// Ended with the test.
struct Prometheus(Child);

impl Prometheus {
    fn start(node: &Node, program: &Path) -> Self {
        let config = deployed("prometheus/criquet.yml");
        let config = format!("global: {{scrape_interval: 250ms}}\n{config}");
        std::fs::write(node.path("prometheus.yml"), config).unwrap();
        let alerts = deployed("prometheus/criquet-alerts.yml");
        std::fs::write(node.path("criquet-alerts.yml"), alerts).unwrap();
        let option = |name: &str, value: &str| format!("--{name}={value}");
        let log = std::fs::File::create(node.path("prometheus.log")).unwrap();
        let child = node
            .inside(program.to_str().unwrap())
            .arg(option("config.file", node.path("prometheus.yml").to_str().unwrap()))
            .arg(option("storage.tsdb.path", node.path("tsdb").to_str().unwrap()))
            .arg(option("web.listen-address", &format!("127.0.0.1:{PORT}")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The results of a query; nothing while there is no server.
async fn ask(node: &Node, query: &str) -> Option<Vec<Value>> {
    let path = format!("/api/v1/query?query={}", http::escape(query));
    let answer: Value = serde_json::from_str(&http::get(node, PORT, &path).await?).ok()?;
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    answer["data"]["result"].as_array().cloned()
}

#[tokio::test]
async fn a_real_prometheus_answers_every_query_of_the_dashboard() {
    requires_root!();
    let program = std::env::var_os("CRIQUET_TEST_PROMETHEUS").filter(|path| !path.is_empty());
    let program = program.map_or("/usr/bin/prometheus".into(), PathBuf::from);
    if !program.exists() {
        eprintln!("SKIPPED: {} is not there", program.display());
        return;
    }
    let mut node = Node::start_with(CONFIG).await;
    let _prometheus = Prometheus::start(&node, &program);
    // What a rate is made of begins before it grows.
    eventually("the daemon is scraped", async || {
        ask(&node, "up{job=\"criquet\"} == 1").await.is_some_and(|found| !found.is_empty())
    })
    .await;
    let pod = life(&mut node).await;
    for query in queries() {
        eventually(&query, async || {
            ask(&node, &query).await.is_some_and(|found| !found.is_empty())
        })
        .await;
    }
    let ready = ask(&node, "sum(criquet_sandboxes{state=\"ready\"})").await.unwrap();
    assert_eq!(ready[0]["value"][1], "1");
    let rules = http::get(&node, PORT, "/api/v1/rules").await.unwrap();
    let rules: Value = serde_json::from_str(&rules).unwrap();
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap().clone();
    let written = deployed("prometheus/criquet-alerts.yml").matches("- alert:").count();
    assert_eq!(rules.len(), written);
    assert!(rules.iter().all(|rule| rule["lastError"].is_null()), "{rules:#?}");
    node.remove_pod(&pod).await.unwrap();
}
