//! A package's whole life on a machine with systemd: installed, started, upgraded under a pod,
//! removed, purged. `CRIQUET_TEST_PACKAGES` names a directory with `old.deb` and `new.deb`; since
//! packages are installed for the whole machine, this is for a virtual one (scripts/vm/packages.sh).
//! The installer of clusters is tried as well, where its image is beside them (`installer.tar`): in
//! a container of containerd, on a node with a kubelet that only waits.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::image;
use criquet::cri::v1::{self, runtime_service_client::RuntimeServiceClient as Runtime};
use tonic::transport::Channel;

/// Held by each test: there is one machine.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn sh(script: &str) -> (bool, String) {
    let output = Command::new("sh").arg("-c").arg(format!("exec 2>&1\n{script}")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("# {script}\n{text}");
    (output.status.success(), text)
}

fn done(script: &str) -> String {
    let (success, text) = sh(script);
    assert!(success, "{script}: {text}");
    text.trim().to_owned()
}

fn packages() -> Option<PathBuf> {
    let systemd = fs::read_to_string("/proc/1/comm").is_ok_and(|name| name.trim() == "systemd");
    match std::env::var_os("CRIQUET_TEST_PACKAGES") {
        Some(directory) if systemd => Some(directory.into()),
        _ => {
            eprintln!("SKIPPED: CRIQUET_TEST_PACKAGES names no packages, or systemd is not here");
            None
        }
    }
}

fn install(packages: &Path, name: &str) -> String {
    done(&format!("dpkg --install {}/{name}.deb", packages.display()))
}

fn client() -> Runtime<Channel> {
    Runtime::new(common::channel("/run/criquet/criquet.sock".into()))
}

/// A pod with a container that writes a line ten times a second; the container's id.
async fn run_pod(runtime: &mut Runtime<Channel>, name: &str) -> String {
    fs::write("/var/tmp/image.tar", image::archive()).unwrap();
    done("criquet image import /var/tmp/image.tar");
    let sandbox = v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "tests".to_owned(),
            attempt: 0,
        }),
        log_directory: "/var/log/packages".to_owned(),
        linux: Some(v1::LinuxPodSandboxConfig::default()),
        ..Default::default()
    };
    let request = v1::RunPodSandboxRequest { config: Some(sandbox.clone()), ..Default::default() };
    let pod = runtime.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
    let script = "n=0; while true; do n=$((n+1)); echo $n; usleep 100000; done";
    let config = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: image::NAME.to_owned(), ..Default::default() }),
        command: ["sh", "-c", script].map(str::to_owned).into(),
        log_path: format!("{name}.log"),
        linux: Some(v1::LinuxContainerConfig::default()),
        ..Default::default()
    };
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: pod,
        config: Some(config),
        sandbox_config: Some(sandbox),
    };
    let id = runtime.create_container(request).await.unwrap().into_inner().container_id;
    let request = v1::StartContainerRequest { container_id: id.clone() };
    runtime.start_container(request).await.unwrap();
    id
}

async fn started_at(runtime: &mut Runtime<Channel>, id: &str) -> i64 {
    let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
    let status = runtime.container_status(request).await.unwrap().into_inner().status.unwrap();
    assert_eq!(status.state, i32::from(v1::ContainerState::ContainerRunning));
    status.started_at
}

/// Of the daemon, or of monitors.
fn pids(name: &str) -> String {
    sh(&format!("pgrep -x {name}")).1
}

/// Lines of the container's log; each must be the number after that of the line before.
fn log_lines(name: &str) -> usize {
    let texts = common::log_texts(&Path::new("/var/log/packages").join(name), "stdout");
    for (index, text) in texts.iter().enumerate() {
        assert_eq!(*text, (index + 1).to_string());
    }
    texts.len()
}

/// What is there of a daemon that is not: everything that has its name.
fn traces() -> String {
    let (_, text) = sh("find /sys/fs/cgroup -name '*criquet*'; \
        find /etc /usr /var/lib /run /opt -name '*criquet*' -not -path '*/dpkg/info/*' -not -path \
        '*/initramfs-tools/*'; \
        grep criquet /proc/self/mountinfo; ip -o link | grep -E 'criquet|veth|cq'; \
        nft list tables | grep criquet; ls /run/netns 2> /dev/null; \
        grep criquet /sys/kernel/security/apparmor/profiles; \
        pgrep -a criquet-monitor; pgrep -ax criquet");
    text
}

#[tokio::test]
async fn a_package_comes_and_goes() {
    requires_root!();
    let Some(packages) = packages() else { return };
    let _turn = TURN.lock().await;

    let said = install(&packages, "old");
    assert!(said.contains("criquet check") && said.contains("systemctl enable"), "{said}");
    done("criquet check");
    // A machine may leave pages out (path-exclude of dpkg).
    done("dpkg --listfiles criquet | grep /usr/share/man/man8/criquet-image-pull.8.gz");
    done("test -s /usr/share/bash-completion/completions/criquet");
    assert!(!sh("systemctl is-active criquet").0, "it was not asked to start");
    done("systemctl enable --now criquet");
    let status = done("criquet status");
    println!("{status}");

    let mut runtime = client();
    let id = run_pod(&mut runtime, "web").await;
    let before = started_at(&mut runtime, &id).await;
    let (daemon, monitors) = (pids("criquet"), pids("criquet-monitor"));
    done("echo '# mine' >> /etc/criquet/config.toml");

    let old_version = done("dpkg-query -W -f '${Version}' criquet");
    install(&packages, "new");
    let new_version = done("dpkg-query -W -f '${Version}' criquet");
    assert_ne!(old_version, new_version);
    assert_ne!(pids("criquet"), daemon, "the new daemon serves");
    done("criquet status");
    // The connection was to the daemon before.
    let mut runtime = client();
    assert_eq!(started_at(&mut runtime, &id).await, before);
    let monitors_after = pids("criquet-monitor");
    // Those that wait for a pod end with their daemon.
    let is_there = |pid: &str| monitors_after.lines().any(|other| other == pid);
    assert!(monitors.lines().any(is_there), "{monitors}{monitors_after}");
    done("grep '# mine' /etc/criquet/config.toml");
    let lines = log_lines("web.log");
    common::eventually("the log goes on", async || log_lines("web.log") > lines + 5).await;

    let said = done("dpkg --remove criquet");
    assert!(said.contains("pods are ended now") && said.contains("ended tests/web"), "{said}");
    assert!(pids("criquet-monitor").is_empty());
    done("test -d /var/lib/criquet/images -a -f /etc/criquet/config.toml");
    done("dpkg --purge criquet");
    assert_eq!(traces(), "");

    // All at once, with a pod that runs.
    install(&packages, "new");
    done("systemctl enable --now criquet");
    run_pod(&mut client(), "again").await;
    let said = done("dpkg --purge criquet");
    assert!(said.contains("ended tests/again"), "{said}");
    assert_eq!(traces(), "");
}

/// A containerd of this machine.
fn start_containerd(programs: &str) {
    let path = std::env::var("CRIQUET_TEST_RUNC").unwrap_or_default();
    let runc = Path::new(&path).parent().unwrap().display().to_string();
    done(&format!(
        "systemd-run --unit=containerd --setenv=PATH={runc}:{programs}:/usr/sbin:/usr/bin \
         {programs}/containerd; for _ in $(seq 100); do test -S /run/containerd/containerd.sock \
         && {programs}/ctr version && exit 0; sleep 0.2; done; journalctl -u containerd; exit 1"
    ));
}

#[tokio::test]
async fn the_installer_takes_a_node_over_and_gives_it_back() {
    requires_root!();
    let Some(packages) = packages() else { return };
    let Ok(programs) = std::env::var("CRIQUET_TEST_CONTAINERD") else {
        eprintln!("SKIPPED: CRIQUET_TEST_CONTAINERD does not say where containerd is");
        return;
    };
    let archive = packages.join("installer.tar");
    if !archive.exists() {
        eprintln!("SKIPPED: {} is not there", archive.display());
        return;
    }
    let _turn = TURN.lock().await;
    start_containerd(&programs);
    done(&format!("{programs}/ctr -n k8s.io images import {}", archive.display()));
    let image =
        done(&format!("{programs}/ctr -n k8s.io images ls -q | grep installer | head -n 1"));
    let installer = |what: &str| {
        format!(
            "{programs}/ctr -n k8s.io run --rm --privileged --net-host \
             --with-ns pid:/proc/1/ns/pid --mount type=bind,src=/,dst=/host,options=rbind:rw \
             {image} installer-{what} sh /criquet/installer.sh {what}"
        )
    };
    let kubelet = "/var/lib/kubelet/config.yaml";
    let before = "containerRuntimeEndpoint: unix:///run/containerd/containerd.sock";
    fs::create_dir_all("/var/lib/kubelet").unwrap();
    fs::write(kubelet, format!("kind: KubeletConfiguration\n{before}\n")).unwrap();
    fs::write("/etc/systemd/system/kubelet.service", "[Service]\nExecStart=/bin/sleep infinity\n")
        .unwrap();
    done("systemctl daemon-reload && systemctl start kubelet");
    let kubelet_pid = || done("systemctl show --value --property MainPID kubelet");
    let first = kubelet_pid();

    done(&installer("install"));
    done("systemctl is-active criquet && systemctl is-enabled criquet");
    done("/opt/criquet/criquet status");
    assert_eq!(kubelet_pid(), first, "the kubelet was not to be touched");
    assert!(fs::read_to_string(kubelet).unwrap().contains(before));

    done(&installer("switch"));
    let switched = async || {
        let config = fs::read_to_string(kubelet).unwrap_or_default();
        config.contains("unix:///run/criquet/criquet.sock")
            && sh("systemctl is-active kubelet").0
            && kubelet_pid() != first
    };
    common::eventually("the kubelet is pointed at Criquet", switched).await;
    done("ln -s /opt/criquet/criquet /usr/local/bin/criquet");
    run_pod(&mut client(), "installed").await;

    done(&installer("uninstall"));
    let gone = async || !Path::new("/opt/criquet").exists() && sh("systemctl is-active kubelet").0;
    common::eventually("the node is given back", gone).await;
    assert!(fs::read_to_string(kubelet).unwrap().contains(before));
    println!("{}", done("journalctl --no-pager -o cat -u criquet-switch"));
    assert!(pids("criquet-monitor").is_empty() && pids("criquet").is_empty());
    done(
        "systemctl stop kubelet containerd; rm -rf /var/lib/kubelet /etc/systemd/system/kubelet.service",
    );
    done(
        "rm -rf /usr/local/bin/criquet /var/lib/criquet /etc/criquet /run/criquet /run/lock/criquet",
    );
    assert_eq!(traces(), "");
}
