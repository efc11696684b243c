//! The requests that most tests make, in short.

use std::path::PathBuf;

use criquet::cri::{PlainContainerItem, PlainPodSandboxItem, v1};
use tonic::Status;

use super::{
    Node, image,
    streams::{Target, Wanted},
};

/// A sandbox with this name and log directory `logs` of the node.
pub fn sandbox(node: &Node, name: &str) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "tests".to_owned(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        log_directory: node.path("logs").display().to_string(),
        linux: Some(v1::LinuxPodSandboxConfig {
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(own_pids()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A PID namespace for each container.
pub fn own_pids() -> v1::NamespaceOption {
    v1::NamespaceOption { pid: v1::NamespaceMode::Container.into(), ..Default::default() }
}

/// A container of the test image that runs a shell script.
pub fn script(name: &str, script: &str) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: image::NAME.to_owned(), ..Default::default() }),
        command: ["sh", "-c", script].map(str::to_owned).into(),
        log_path: format!("{name}.log"),
        linux: Some(v1::LinuxContainerConfig {
            security_context: Some(v1::LinuxContainerSecurityContext {
                namespace_options: Some(own_pids()),
                masked_paths: MASKED.map(str::to_owned).into(),
                readonly_paths: READ_ONLY.map(str::to_owned).into(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// What a kubelet hides, and shows read-only, unless a pod wants another `/proc`.
const MASKED: [&str; 4] = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"];
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The security context of a container.
pub fn security(config: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerSecurityContext {
    config.linux.get_or_insert_default().security_context.get_or_insert_default()
}

/// The resources of a container.
pub fn resources(config: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerResources {
    config.linux.get_or_insert_default().resources.get_or_insert_default()
}

impl Node {
    /// RunPodSandbox.
    pub async fn run(&mut self, config: v1::PodSandboxConfig) -> Result<String, Status> {
        let request = v1::RunPodSandboxRequest { config: Some(config), ..Default::default() };
        Ok(self.runtime.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id)
    }

    /// A sandbox with this name.
    pub async fn pod(&mut self, name: &str) -> String {
        let config = sandbox(self, name);
        self.run(config).await.unwrap()
    }

    /// CreateContainer.
    pub async fn create(
        &mut self,
        pod: &str,
        config: v1::ContainerConfig,
    ) -> Result<String, Status> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config),
            sandbox_config: None,
        };
        Ok(self.runtime.create_container(request).await?.into_inner().container_id)
    }

    /// StartContainer.
    pub async fn start_container(&mut self, id: &str) -> Result<(), Status> {
        let request = v1::StartContainerRequest { container_id: id.to_owned() };
        self.runtime.start_container(request).await.map(drop)
    }

    /// CreateContainer and StartContainer.
    pub async fn launch(&mut self, pod: &str, config: v1::ContainerConfig) -> String {
        let id = self.create(pod, config).await.unwrap();
        self.start_container(&id).await.unwrap();
        id
    }

    /// ContainerStatus.
    pub async fn status(&mut self, id: &str) -> Result<v1::ContainerStatus, Status> {
        let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        Ok(self.runtime.container_status(request).await?.into_inner().status.unwrap())
    }

    /// Waits for the end of a container and returns its status.
    pub async fn end_of(&mut self, id: &str) -> v1::ContainerStatus {
        let exited = i32::from(v1::ContainerState::ContainerExited);
        for _ in 0..18_000 {
            let status = self.status(id).await.unwrap();
            if status.state == exited {
                return status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("container {id} did not end\n{}", self.log());
    }

    /// Runs a script in a new container to its end; returns its status and log.
    pub async fn result_of(
        &mut self,
        pod: &str,
        config: v1::ContainerConfig,
    ) -> (v1::ContainerStatus, String) {
        let log = self.container_log(&config);
        let id = self.launch(pod, config).await;
        let status = self.end_of(&id).await;
        (status, super::log_texts(&log, "stdout").join("\n"))
    }

    /// The log file of a container.
    pub fn container_log(&self, config: &v1::ContainerConfig) -> PathBuf {
        self.path("logs").join(&config.log_path)
    }

    /// ExecSync of a shell script with a limit in seconds.
    pub async fn exec(
        &mut self,
        id: &str,
        script: &str,
        timeout: i64,
    ) -> Result<v1::ExecSyncResponse, Status> {
        let request = v1::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: ["sh", "-c", script].map(str::to_owned).into(),
            timeout,
        };
        Ok(self.runtime.exec_sync(request).await?.into_inner())
    }

    /// What a script in a container prints.
    pub async fn output(&mut self, id: &str, script: &str) -> String {
        let response = self.exec(id, script, 30).await.unwrap();
        let error = String::from_utf8_lossy(&response.stderr).into_owned();
        assert_eq!(response.exit_code, 0, "{script}: {error}");
        String::from_utf8(response.stdout).unwrap().trim().to_owned()
    }

    /// StopContainer.
    pub async fn stop(&mut self, id: &str, timeout: i64) -> Result<(), Status> {
        let request = v1::StopContainerRequest { container_id: id.to_owned(), timeout };
        self.runtime.stop_container(request).await.map(drop)
    }

    /// RemoveContainer.
    pub async fn remove(&mut self, id: &str) -> Result<(), Status> {
        let request = v1::RemoveContainerRequest { container_id: id.to_owned() };
        self.runtime.remove_container(request).await.map(drop)
    }

    /// StopPodSandbox.
    pub async fn stop_pod(&mut self, id: &str) -> Result<(), Status> {
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.runtime.stop_pod_sandbox(request).await.map(drop)
    }

    /// RemovePodSandbox.
    pub async fn remove_pod(&mut self, id: &str) -> Result<(), Status> {
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.runtime.remove_pod_sandbox(request).await.map(drop)
    }

    /// PodSandboxStatus.
    pub async fn pod_status(&mut self, id: &str) -> Result<v1::PodSandboxStatus, Status> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        Ok(self.runtime.pod_sandbox_status(request).await?.into_inner().status.unwrap())
    }

    /// ListPodSandbox.
    pub async fn pods(&mut self, filter: v1::PodSandboxFilter) -> Vec<PlainPodSandboxItem> {
        let request = v1::ListPodSandboxRequest { filter: Some(filter) };
        let items = self.runtime.list_pod_sandbox(request).await.unwrap().into_inner().items;
        items.iter().map(|item| item.plain().unwrap()).collect()
    }

    /// ListContainers.
    pub async fn containers(&mut self, filter: v1::ContainerFilter) -> Vec<PlainContainerItem> {
        let request = v1::ListContainersRequest { filter: Some(filter) };
        let answer = self.runtime.list_containers(request).await.unwrap().into_inner();
        answer.containers.iter().map(|item| item.plain().unwrap()).collect()
    }

    /// Exec of a shell script.
    pub async fn exec_url(&mut self, id: &str, script: &str, wanted: Wanted) -> Target {
        let cmd = ["sh", "-c", script].map(str::to_owned).into();
        self.exec_command(id, cmd, wanted).await
    }

    /// Exec of a command.
    pub async fn exec_command(&mut self, id: &str, cmd: Vec<String>, wanted: Wanted) -> Target {
        let Wanted { stdin, stderr, tty } = wanted;
        let container_id = id.to_owned();
        let request = v1::ExecRequest { container_id, cmd, tty, stdin, stdout: true, stderr };
        let url = self.runtime.exec(request).await.unwrap().into_inner().url;
        self.target(url)
    }

    /// Attach.
    pub async fn attach_url(&mut self, id: &str, wanted: Wanted) -> Target {
        let Wanted { stdin, stderr, tty } = wanted;
        let container_id = id.to_owned();
        let request = v1::AttachRequest { container_id, tty, stdin, stdout: true, stderr };
        let url = self.runtime.attach(request).await.unwrap().into_inner().url;
        self.target(url)
    }

    /// PortForward.
    pub async fn ports_url(&mut self, pod: &str, port: &[i32]) -> Target {
        let request =
            v1::PortForwardRequest { pod_sandbox_id: pod.to_owned(), port: port.to_vec() };
        let url = self.runtime.port_forward(request).await.unwrap().into_inner().url;
        self.target(url)
    }

    fn target(&self, url: String) -> Target {
        Target { namespace: Some(self.namespace()), url }
    }
}
