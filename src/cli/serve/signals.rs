//! What signals mean to the daemon.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::Reload;
use crate::{image::ImageStore, pod::Pods};

/// SIGHUP reads the rules about images again. What is wrong with the configuration is told,
/// and the rules stay as they were.
pub(super) async fn reload(images: Arc<ImageStore>, reload: Reload) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        warn!("SIGHUP cannot be received; restart to apply a changed configuration");
        return;
    };
    let reload = Arc::new(reload);
    while hangup.recv().await.is_some() {
        let reload = Arc::clone(&reload);
        // The configuration is a file.
        match tokio::task::spawn_blocking(move || reload()).await {
            Ok(Ok(rules)) => {
                images.set_rules(rules);
                info!("rules about registries and images are read again");
            }
            Ok(Err(error)) => warn!(%error, "the configuration is wrong; the old rules stay"),
            Err(_) => warn!("the configuration cannot be read; the old rules stay"),
        }
    }
}

/// SIGUSR1, SIGUSR2 and SIGQUIT write to the log what the daemon is doing, as administrators
/// of other runtimes are used to.
pub(super) async fn dump(pods: Arc<Pods>) {
    let signals = [SignalKind::user_defined1(), SignalKind::user_defined2(), SignalKind::quit()];
    let (Ok(mut one), Ok(mut two), Ok(mut quit)) =
        (signal(signals[0]), signal(signals[1]), signal(signals[2]))
    else {
        warn!("signals that ask for a report cannot be received");
        return;
    };
    loop {
        let received = tokio::select! {
            received = one.recv() => received,
            received = two.recv() => received,
            received = quit.recv() => received,
        };
        if received.is_none() {
            return;
        }
        for line in pods.report().lines() {
            info!(target: "criquet::report", "{line}");
        }
    }
}

/// SIGTERM or SIGINT.
pub(super) async fn end() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        warn!("signals cannot be received; only SIGKILL ends this daemon");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
