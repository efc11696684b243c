// SPDX-License-Identifier: Apache-2.0
//! The Criquet daemon and its tools.

use std::path::PathBuf;

use criquet::{cli::serve, image, network, pod};

fn main() {
    let mut root = PathBuf::from("/var/lib/criquet");
    let mut state = PathBuf::from("/run/criquet");
    let mut listen = PathBuf::from("/run/criquet/criquet.sock");
    let mut args = std::env::args().skip(2);
    while let Some(a) = args.next() {
        let v = args.next().unwrap();
        match a.as_str() {
            "--root" => root = v.into(),
            "--state" => state = v.into(),
            "--listen" => listen = v.trim_start_matches("unix://").into(),
            _ => panic!(),
        }
    }
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let mut images = image::Options::new(root.join("images"));
    images.certs_dir = root.join("certs.d");
    let net = network::Options {
        cache_dir: root.join("cni"),
        cni_conf_dir: root.join("cni.d"),
        bridge: "cqt0".into(),
        name_prefix: "cqt".into(),
        ..Default::default()
    };
    let settings = serve::Settings {
        listen,
        monitor: std::env::var_os("MON")
            .map(PathBuf::from)
            .unwrap_or_else(|| std::env::current_exe().unwrap().with_file_name("criquet-monitor")),
        pods: pod::Options {
            root: root.clone(),
            state,
            netns_dir: "/run/netns".into(),
            cgroup_parent: "/criquet-test".into(),
            handlers: vec!["criquet".into()],
            shm_size: 64 << 20,
            unprivileged_ports: true,
        },
        network: net,
        images,
    };
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(serve::run(settings))
        .unwrap();
}
