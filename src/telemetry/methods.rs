//! The methods that are served. What strangers call by other names is one method, so that
//! nobody makes figures without number.

/// A method of a gRPC service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// The package and the name of its service, as in `runtime.v1.RuntimeService`.
    pub service: &'static str,
    /// Its name.
    pub name: &'static str,
}

const RUNTIME: &str = "runtime.v1.RuntimeService";
const IMAGE: &str = "runtime.v1.ImageService";
const ADMIN: &str = "criquet.v1.Admin";

const UNKNOWN: Method = Method { service: "unknown", name: "unknown" };

const SERVICES: [(&str, &[&str]); 3] = [
    (
        RUNTIME,
        &[
            "Attach",
            "CheckpointContainer",
            "CheckpointPod",
            "ContainerStats",
            "ContainerStatus",
            "CreateContainer",
            "Exec",
            "ExecSync",
            "GetContainerEvents",
            "ListContainerStats",
            "ListContainers",
            "ListMetricDescriptors",
            "ListPodSandbox",
            "ListPodSandboxMetrics",
            "ListPodSandboxStats",
            "PodSandboxStats",
            "PodSandboxStatus",
            "PortForward",
            "RemoveContainer",
            "RemovePodSandbox",
            "ReopenContainerLog",
            "RestorePod",
            "RunPodSandbox",
            "RuntimeConfig",
            "StartContainer",
            "Status",
            "StopContainer",
            "StopPodSandbox",
            "StreamContainerStats",
            "StreamContainers",
            "StreamPodSandboxMetrics",
            "StreamPodSandboxStats",
            "StreamPodSandboxes",
            "UpdateContainerResources",
            "UpdatePodSandboxResources",
            "UpdateRuntimeConfig",
            "Version",
        ],
    ),
    (
        IMAGE,
        &["ImageFsInfo", "ImageStatus", "ListImages", "PullImage", "RemoveImage", "StreamImages"],
    ),
    (
        ADMIN,
        &[
            "ExportImages",
            "ImageMetrics",
            "ImportImages",
            "InspectPod",
            "Inventory",
            "ListNetworks",
            "ListPulls",
            "Metrics",
            "PullImage",
            "RemoveNetwork",
            "RemoveStray",
            "Status",
            "VerifyImages",
        ],
    ),
];

impl Method {
    /// The method that a request's path names.
    pub fn of_path(path: &str) -> Self {
        let found = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        let Some((service, name)) = found else { return UNKNOWN };
        let known = SERVICES.iter().find(|(known, _)| *known == service);
        let Some((service, names)) = known else { return UNKNOWN };
        match names.binary_search(&name) {
            Ok(index) => Self { service, name: names[index] },
            Err(_) => UNKNOWN,
        }
    }

    /// Whether it lasts as long as its client likes, so that its duration says nothing.
    pub(super) fn is_open_ended(&self) -> bool {
        self.name == "GetContainerEvents"
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::{Method, SERVICES, UNKNOWN};

    #[test]
    fn every_method_of_the_protocols_is_known_and_no_other() {
        let mut descriptors = Vec::new();
        for bytes in [crate::cri::v1::DESCRIPTOR, crate::admin::v1::DESCRIPTOR] {
            descriptors.extend(prost_types::FileDescriptorSet::decode(bytes).unwrap().file);
        }
        let mut count = 0;
        for file in &descriptors {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                for method in &service.method {
                    let known = Method::of_path(&format!("/{name}/{}", method.name()));
                    assert_eq!((known.service, known.name), (name.as_str(), method.name()));
                    count += 1;
                }
            }
        }
        assert_eq!(count, SERVICES.iter().map(|(_, names)| names.len()).sum::<usize>());
        for wrong in ["", "/", "/a", "/a/b", "/runtime.v1.RuntimeService/Nonsense", "Version"] {
            assert_eq!(Method::of_path(wrong), UNKNOWN, "{wrong}");
        }
    }
}
