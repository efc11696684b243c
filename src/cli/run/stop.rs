//! `criquet stop`: the end of a pod that was run by hand.

use std::{path::PathBuf, process::ExitCode};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Signal, pidfd_send_signal},
};

use super::{DIRECTORY, SUPERVISOR, args::Stop, daemon, error::Error, sandbox};
use crate::{
    cli::{
        self,
        config::Config,
        image::{self, Client},
    },
    cri::{PlainPodSandboxItem, v1::PodSandboxStatusRequest},
    sys::process::Identity,
};

/// Ends a pod, wherever it runs: on the daemon that is configured, or on one of its own.
pub(in crate::cli) fn stop(arguments: &Stop) -> Result<ExitCode, cli::Error> {
    let place = &arguments.place;
    let node = &place.node;
    let config = Config::load_with(node.file.config.as_deref(), &node.overrides())?;
    let own = daemon::config(&place.directory, &config);
    let mut places = vec![(config, false), (own, true)];
    places.retain(|(_, is_own)| *is_own || !place.own);
    for (config, is_own) in &places {
        let client = Client::new(config)?;
        let found = client.wait(async { Ok(sandbox::find(&client, &arguments.name).await) });
        let found = match found {
            Ok(Err(Error::Daemon { .. })) | Err(image::Error::NoDaemon { .. }) => continue,
            found => found??,
        };
        for pod in &found {
            end(&client, pod, arguments.now)?;
        }
        if !found.is_empty() {
            if *is_own {
                // The process that looked after the pod may have ended it already.
                let _ = daemon::end(&place.directory, client);
            }
            return Ok(ExitCode::SUCCESS);
        }
    }
    Err(Error::Absent(arguments.name.clone()).into())
}

/// Asks the process that looks after it, and waits for that; does it itself where there is none,
/// or where that has left something.
fn end(client: &Client, pod: &PlainPodSandboxItem, now: bool) -> Result<(), cli::Error> {
    let supervisor = pod.annotations.get(SUPERVISOR).and_then(|text| {
        let (pid, started) = text.split_once(':')?;
        Some(Identity { pid: pid.parse().ok()?, started: started.parse().ok()? })
    });
    let supervisor = supervisor.filter(|identity| !identity.is_over());
    if let Some(pidfd) = supervisor.and_then(|identity| identity.open().ok()) {
        let signal = if now { Signal::QUIT } else { Signal::TERM };
        let failed = |errno: rustix::io::Errno| {
            Error::io("end the process that looks after", &PathBuf::from(&pod.id))(errno.into())
        };
        pidfd_send_signal(&pidfd, signal).map_err(failed)?;
        let mut waited = [PollFd::new(&pidfd, PollFlags::IN)];
        // As long as the pod takes, which has its own time for that.
        while poll(&mut waited, None).map_err(failed)? == 0 {}
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: false };
        if client.ask(client.pods().pod_sandbox_status(request)).is_err() {
            return Ok(());
        }
    }
    let directory = pod.annotations.get(DIRECTORY).map(PathBuf::from).unwrap_or_default();
    client.wait(async { Ok(sandbox::remove(client, Some(&pod.id), &directory).await) })??;
    Ok(())
}
