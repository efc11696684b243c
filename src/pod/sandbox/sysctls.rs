//! Kernel settings of a pod's network. They are set once it has its interfaces, as the other
//! runtimes do: before, those of single interfaces are not there, and addresses of IPv6 could
//! not be given where a pod wants none.

use std::{collections::BTreeMap, fs, os::fd::AsFd, path::Path, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{
    pod::{
        Pods, blocking,
        error::{During, Error},
        sandbox::SandboxRecord,
    },
    spec,
    sys::sysctl,
};

impl Pods {
    /// Sets what the pod asks for of its own network.
    pub(super) async fn set_network_sysctls(&self, record: &SandboxRecord) -> Result<(), Error> {
        let Some(netns) = record.netns.clone() else { return Ok(()) };
        let wanted = record.config.sysctls.clone().into_iter();
        let wanted: BTreeMap<_, _> =
            wanted.filter(|(name, _)| sysctl::is_of_network(name)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        blocking::own_files(move || {
            // A thread that has been elsewhere serves nobody else.
            let place = netns.clone();
            let set = thread::Builder::new().spawn(move || set_in(&place, &wanted));
            let set = set.during("start a thread for", &netns)?;
            set.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
        .await
    }
}

fn set_in(netns: &Path, wanted: &BTreeMap<String, String>) -> Result<(), Error> {
    let namespace = fs::File::open(netns).during("open network namespace", netns)?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(std::io::Error::from)
        .during("enter network namespace", netns)?;
    for (name, value) in wanted {
        sysctl::set(sysctl::own(), name, value)
            .map_err(|error| spec::Error::invalid("linux.sysctls", error.to_string()))?;
    }
    Ok(())
}
