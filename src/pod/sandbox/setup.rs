//! What the monitor of a pod is told when the pod is made.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use crate::{
    monitor::v1,
    pod::{Pods, allowed, error::Error, sandbox::SandboxRecord},
    quantity,
    spec::{
        self,
        config::{Map, NamespaceMode, SandboxConfig},
    },
    sys::sysctl,
};

impl Pods {
    /// The message.
    pub(super) fn setup(
        &self,
        record: &SandboxRecord,
        directory: &Path,
        hostname: &str,
    ) -> Result<v1::Setup, Error> {
        let text = |path: &Option<PathBuf>| {
            path.as_ref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let modes = &record.config.security.namespaces;
        let own_network = modes.network != NamespaceMode::Node;
        Ok(v1::Setup {
            directory: directory.to_string_lossy().into_owned(),
            network: own_network,
            ipc: modes.ipc != NamespaceMode::Node,
            uts: own_network,
            pid: modes.pid == NamespaceMode::Pod,
            hostname: hostname.to_owned(),
            sysctls: self.sysctls(&record.config, own_network),
            netns_path: text(&record.netns),
            shm_path: text(&record.shm),
            shm_size: self.shm_size_of(&record.config.annotations)?,
            files_path: text(&record.files),
            init_cgroup: text(&record.init_cgroup()),
            mount_label: self.selinux.mount_label(record).unwrap_or_default(),
            // Where the monitor itself is in it, it cannot remove it.
            cgroup: text(
                &(record.owns_cgroup && record.monitor_cgroup().is_none())
                    .then(|| record.cgroup.clone()),
            ),
            users: modes.users.map(|users| v1::Users {
                host_uid: users.uids.host,
                host_gid: users.gids.host,
                uids: users.uids.count,
                gids: users.gids.count,
            }),
            ..v1::Setup::default()
        })
    }

    /// The size of `/dev/shm`, which an annotation may ask for where that is allowed.
    pub(super) fn shm_size_of(&self, annotations: &Map) -> Result<u64, Error> {
        let allowed = &self.options.containers.allowed_annotations;
        let Some((key, text)) = allowed.value(annotations, allowed::SHM_SIZE, "") else {
            return Ok(self.options.shm_size);
        };
        quantity::whole(text).filter(|bytes| *bytes >= 4096).ok_or_else(|| {
            let reason = format!("{key}: {text:?} is no size; write a quantity such as 256Mi");
            spec::Error::invalid("annotations", reason).into()
        })
    }

    fn sysctls(&self, config: &SandboxConfig, own_network: bool) -> HashMap<String, String> {
        let mut sysctls: HashMap<String, String> = HashMap::new();
        if own_network && self.options.unprivileged_ports {
            sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
            sysctls.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
        }
        let others = config.sysctls.iter().filter(|(name, _)| !sysctl::is_of_network(name));
        sysctls.extend(others.map(|(name, value)| (name.clone(), value.clone())));
        sysctls
    }
}
