//! Pods that have a directory and no record: the database is lost, or the record of the pod
//! does not parse. Nobody can manage them any more, their containers' files are not known, and
//! their addresses count as free, so they are ended before a new pod is made.

use std::{path::Path, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::{sync::mpsc, time::timeout};
use tracing::{error, warn};

use crate::{
    kind::chain,
    monitor::client::Monitor,
    pod::{
        Pods, blocking,
        error::{Error, Reason},
        id::SandboxId,
        sandbox::{Sandbox, dismantle::remove_directory, unmake::Remains},
    },
    runtime::cgroup::Cgroup,
};

/// How long a monitor may take to end its pod.
const SHUT_DOWN_LIMIT: Duration = Duration::from_secs(5);

/// How long processes may take to end after SIGKILL.
const AFTER_KILL: Duration = Duration::from_secs(5);

impl Pods {
    pub(super) async fn end_unknown(self: &Arc<Self>, unknown: Vec<SandboxId>) {
        if unknown.is_empty() {
            return;
        }
        error!(
            pods = unknown.len(),
            "pods are there that the state database does not know; they are ended, and the \
             kubelet starts them anew"
        );
        let ends = unknown.iter().map(|id| async move {
            if let Err(error) = self.end_unknown_pod(id).await {
                warn!(sandbox.id = %id, error = %chain(&error),
                    "the unknown pod is not ended; the next start of the daemon tries it again");
            }
        });
        join_all(ends).await;
    }

    async fn end_unknown_pod(self: &Arc<Self>, id: &SandboxId) -> Result<(), Error> {
        let directory = self.sandbox_directory(id);
        let (events, _receiver) = mpsc::unbounded_channel();
        let socket = self.socket_of(id);
        let runtime = tokio::runtime::Handle::current();
        let connect = move || {
            let _runtime = runtime.enter();
            Ok(Monitor::connect(&socket, events)?)
        };
        let shut_down = async {
            let monitor = blocking::own_files(connect).await?;
            monitor.shut_down().await.map_err(Error::from)
        };
        let has_ended = matches!(timeout(SHUT_DOWN_LIMIT, shut_down).await, Ok(Ok(())));
        let version = self.parts.cgroups;
        let scope = blocking::own_files(move || {
            let remains = Remains::read(&directory);
            if let Some(monitor) = remains.monitor.filter(|_| !has_ended) {
                // What cannot be killed now is killed by the next daemon.
                let _ = monitor.kill();
            }
            if let Some(cgroup) = &remains.cgroup {
                end_containers(version, cgroup)?;
            }
            remains.traces().remove()?;
            remove_directory(&directory)?;
            Ok(remains.scope())
        })
        .await?;
        self.end_scope(scope).await;
        Ok(())
    }

    /// Connects to the monitor of a pod that is to be ended, if it answers: it knows best how.
    pub(super) async fn reach_for_the_end(self: &Arc<Self>, sandbox: &Arc<Sandbox>) {
        if sandbox.record().boot_id != self.boot_id {
            return;
        }
        let Ok(place) = self.places.take() else { return };
        let (events, _receiver) = mpsc::unbounded_channel();
        let socket = self.socket_of(&sandbox.id);
        let runtime = tokio::runtime::Handle::current();
        let connect = move || {
            let _runtime = runtime.enter();
            Ok(Monitor::connect(&socket, events)?)
        };
        if let Ok(Ok(monitor)) = timeout(SHUT_DOWN_LIMIT, blocking::own_files(connect)).await {
            sandbox.set_monitor(monitor, place);
        }
    }
}

/// Ends what is in the cgroups of containers below that of their pod. Those of others, which
/// the kubelet may have made there, are left alone: ours are named by an id.
fn end_containers(version: crate::runtime::cgroup::Version, pod: &Path) -> Result<(), Error> {
    for name in crate::runtime::cgroup::children(version, pod) {
        let is_id = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id {
            continue;
        }
        let Ok(cgroup) = Cgroup::open(version, &pod.join(&name)) else { continue };
        let end = std::time::Instant::now() + AFTER_KILL;
        while !cgroup.is_empty()? {
            cgroup.kill()?;
            if std::time::Instant::now() > end {
                return Err(Reason::Unkillable { what: "container", id: name }.into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        cgroup.remove()?;
    }
    Ok(())
}
