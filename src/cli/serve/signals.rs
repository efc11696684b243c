//! What signals mean to the daemon.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::Reload;
use crate::{
    cli::config::{Change, Changes, Config},
    pod::Pods,
};

/// SIGHUP reads the configuration again, and applies of it what can be. What is wrong with it is
/// told, and everything stays as it was.
pub(super) async fn reload(pods: Arc<Pods>, mut reload: Reload) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        warn!("SIGHUP cannot be received; restart to apply a changed configuration");
        return;
    };
    while hangup.recv().await.is_some() {
        // The configuration is a file.
        let read = move || {
            let loaded = (reload.load)();
            (reload, loaded)
        };
        let loaded = match tokio::task::spawn_blocking(read).await {
            Ok((same, loaded)) => {
                reload = same;
                loaded
            }
            Err(_) => {
                warn!("the configuration cannot be read any more; restart to apply a changed one");
                return;
            }
        };
        match loaded {
            Ok(new) => apply(&pods, &mut reload, &new),
            Err(error) => {
                let error = crate::kind::chain(&error);
                warn!(error, "the configuration is wrong; nothing of it is applied");
            }
        }
    }
}

fn apply(pods: &Arc<Pods>, reload: &mut Reload, new: &Config) {
    let Changes { applied, put_off } = reload.config.changes_to(new);
    if applied.is_empty() && put_off.is_empty() {
        return info!("the configuration is read again; nothing in it has changed");
    }
    for Change { key, old, new } in &put_off {
        warn!(
            key,
            old, new, "the configuration has changed here; it needs a restart of the daemon"
        );
    }
    if applied.is_empty() {
        return;
    }
    let merged = match reload.config.reloaded_with(new) {
        Ok(merged) => merged,
        Err(error) => return warn!(%error, "the configuration cannot be applied"),
    };
    if merged.log_level != reload.config.log_level {
        // That is told whether or not the old level, or the new one, would let it through.
        (reload.set_level)("info");
    }
    for Change { key, old, new } in &applied {
        info!(key, old, new, "the configuration has changed, and this takes effect");
    }
    pods.images().set_rules(merged.image_rules());
    pods.set_rules(merged.pod_rules());
    (reload.set_level)(&merged.log_level);
    reload.config = merged;
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
