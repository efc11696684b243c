//! A pod in words.

use serde_json::Value;

use super::{
    Known, namespaces,
    words::{fact, fact_if, limits, pairs, pod_limits, usage},
};
use crate::{
    admin::v1::{HostPort, PodNetwork},
    cli::{
        network::on_host,
        node::{snapshot::Pod, table},
        paint::Paint,
        text::{WIDTH, duration},
        time,
    },
};

pub(super) fn text(known: &Known<'_>, paint: Paint) -> String {
    let (pod, info) = (known.pod, &known.pod_info);
    let mut text = format!("pod {} {}\n\n", pod.full_name(), state(pod, paint));
    fact(&mut text, "id", &pod.id);
    fact_if(&mut text, "uid", &pod.uid);
    let made = time::text(pod.created_at).unwrap_or_default();
    let age = duration(time::age(pod.created_at, time::now()));
    fact(&mut text, "made", &format!("{made}, {age} ago"));
    if let Some(words) = info["trouble"]["reason"].as_str() {
        fact(&mut text, "trouble", &paint.mark(words, false));
    }
    fact_if(&mut text, "handler", info["runtimeHandler"].as_str().unwrap_or_default());
    network(&mut text, pod, info, known.network.as_ref());
    fact_if(&mut text, "host name", info["config"]["hostname"].as_str().unwrap_or_default());
    fact(&mut text, "cgroup", info["cgroup"].as_str().unwrap_or_default());
    fact(&mut text, "limits", &limits(&pod_limits(&info["config"]["linux"]["resources"])));
    fact(&mut text, "uses", &usage(&pod.usage));
    fact_if(&mut text, "kernel settings", &pairs(&info["config"]["linux"]["sysctls"]));
    fact_if(&mut text, "logs", info["config"]["log_directory"].as_str().unwrap_or_default());
    fact_if(&mut text, "labels", &pairs(&info["config"]["labels"]));
    fact_if(&mut text, "annotations", &pairs(&info["config"]["annotations"]));
    fact(&mut text, "monitor", &format!("pid {}", info["pid"]));
    namespaces::text(&mut text, known);
    let rows = table::rows(pod, true, time::now());
    text.push_str(&format!("\n{}", table::text(&rows, WIDTH, paint)));
    text
}

fn state(pod: &Pod, paint: Paint) -> String {
    let word = format!("is {}", pod.state);
    if pod.is_ready() { paint.mark(&word, true) } else { paint.dim(&word) }
}

fn network(text: &mut String, pod: &Pod, info: &Value, network: Option<&PodNetwork>) {
    // `NODE` of `NamespaceMode`.
    let options = &info["config"]["linux"]["security_context"]["namespace_options"];
    if options["network"] == 2 {
        return fact(text, "network", "that of the host");
    }
    fact(text, "addresses", &pod.addresses.join(", "));
    let Some(network) = network else { return };
    let device = match network.device.as_str() {
        "" => String::new(),
        device => format!(", device {device} of the host"),
    };
    fact(text, "network", &format!("{}{device}", network.network));
    let ports: Vec<String> = network.host_ports.iter().map(port).collect();
    fact_if(text, "host ports", &ports.join(", "));
    let limits = [("in", network.ingress), ("out", network.egress)];
    let limits = limits.iter().filter(|(_, limit)| *limit > 0);
    let limits: Vec<_> = limits.map(|(way, bits)| format!("{bits} bit/s {way}")).collect();
    fact_if(text, "bandwidth", &limits.join(", "));
}

fn port(port: &HostPort) -> String {
    format!("{} leads to {}/{}", on_host(port), port.container_port, port.protocol)
}
