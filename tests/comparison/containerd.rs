//! containerd with its CRI service and runc, in a directory of its own.

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use criquet::cri::v1::{self, runtime_service_client::RuntimeServiceClient};
use tonic::transport::Channel;

use crate::common::{Node, channel, image};

pub struct Containerd {
    directory: tempfile::TempDir,
    process: Child,
    runtime: RuntimeServiceClient<Channel>,
}

/// `pid` of the JSON that both show.
pub fn pid_in(info: &HashMap<String, String>) -> i64 {
    let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
    info["pid"].as_i64().unwrap()
}

impl Containerd {
    pub async fn start(node: &Node) -> Option<Self> {
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        let programs = (variable("CRIQUET_TEST_CONTAINERD"), variable("CRIQUET_TEST_RUNC"));
        let (Some(programs), Some(runc)) = programs else {
            eprintln!(
                "SKIPPED: CRIQUET_TEST_CONTAINERD and CRIQUET_TEST_RUNC say where to find them"
            );
            return None;
        };
        let directory = tempfile::Builder::new().prefix("criquet-test-").tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n[grpc]\naddress = {:?}\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = {:?}\n\
             [{cri}]\nsandbox_image = {:?}\nrestrict_oom_score_adj = true\n\
             disable_tcp_service = true\ndisable_apparmor = true\n\
             [{cri}.cni]\nconf_dir = {:?}\n\
             [{cri}.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\
             [{cri}.containerd.runtimes.runc.options]\nBinaryName = {:?}\n",
            path("root"),
            path("state"),
            path("sock"),
            path("opt"),
            crate::IMAGE,
            path("cni"),
            runc,
        );
        fs::write(path("config.toml"), config).unwrap();
        fs::create_dir(path("cni")).unwrap();
        let log = fs::File::create(path("log")).unwrap();
        let search = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", programs.display());
        let process = node
            .inside(programs.join("containerd").to_str().unwrap())
            .arg("--config")
            .arg(path("config.toml"))
            .env("PATH", &search)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let runtime = RuntimeServiceClient::new(channel(path("sock")));
        let mut containerd = Self { directory, process, runtime };
        let end = Instant::now() + Duration::from_secs(60);
        while containerd.runtime.version(v1::VersionRequest::default()).await.is_err() {
            assert!(Instant::now() < end, "containerd does not answer: {}", containerd.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let archive = containerd.directory.path().join("image.tar");
        image::write_archive(&archive);
        let mut ctr = node.inside(programs.join("ctr").to_str().unwrap());
        let socket = containerd.directory.path().join("sock");
        ctr.arg("--address").arg(socket).args(["--namespace", "k8s.io", "images", "import"]);
        let output = ctr.arg(&archive).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(containerd)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    pub async fn run(&mut self, config: v1::PodSandboxConfig) -> String {
        let request = v1::RunPodSandboxRequest { config: Some(config), ..Default::default() };
        match self.runtime.run_pod_sandbox(request).await {
            Ok(answer) => answer.into_inner().pod_sandbox_id,
            Err(error) => panic!("{error}\n{}", self.log()),
        }
    }

    /// Starts a container; answers with its process.
    pub async fn launch(
        &mut self,
        pod: &str,
        sandbox: &v1::PodSandboxConfig,
        config: v1::ContainerConfig,
    ) -> i64 {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox.clone()),
        };
        let container_id = match self.runtime.create_container(request).await {
            Ok(answer) => answer.into_inner().container_id,
            Err(error) => panic!("{error}\n{}", self.log()),
        };
        let request = v1::StartContainerRequest { container_id: container_id.clone() };
        if let Err(error) = self.runtime.start_container(request).await {
            panic!("{error}\n{}", self.log());
        }
        let request = v1::ContainerStatusRequest { container_id, verbose: true };
        pid_in(&self.runtime.container_status(request).await.unwrap().into_inner().info)
    }

    pub async fn remove(&mut self, pod: &str) {
        let pod_sandbox_id = pod.to_owned();
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
        self.runtime.stop_pod_sandbox(request).await.unwrap();
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id };
        self.runtime.remove_pod_sandbox(request).await.unwrap();
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
