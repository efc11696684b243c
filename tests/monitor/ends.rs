//! Starts that come to nothing, and ends of containers and pods.

use std::{fs, os::fd::AsFd, path::Path};

use criquet::{
    kind::Kind,
    monitor::{client::Event, record::ExitRecord, v1},
};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    pod::{Hung, PATIENCE, Pod, eventually, state_of},
    requires_root,
};

/// The child that is on its way, as the pod's state tells.
async fn child_of(pod: &Pod, id: &str) -> Pid {
    let mut pid = 0;
    while pid == 0 {
        pid = pod.state_of(id).await.map_or(0, |state| state.pid);
    }
    Pid::from_raw(pid).unwrap()
}

#[tokio::test]
async fn a_container_on_its_way_is_ended_at_once_and_holds_up_no_other() {
    requires_root!();
    let Some(hung) = Hung::mount() else { return eprintln!("SKIPPED: no FUSE here") };
    for pid_mode in [v1::PidMode::Container, v1::PidMode::Pod] {
        let setup = v1::Setup { pid: pid_mode == v1::PidMode::Pod, ..v1::Setup::default() };
        let pod = Pod::start_with(setup).await;
        pod.run("well", "sleep 1000").await.unwrap();
        let request = v1::Start { pid_mode: pid_mode.into(), ..pod.request("never") };
        let bundle = pod.bundle_with(&request, "exit 0", &hung.path());
        let monitor = pod.monitor.clone();
        let starting =
            tokio::spawn(async move { monitor.start(request, bundle.as_fd(), None).await });
        let child = child_of(&pod, "never").await;
        // Stopped as well: a container that shares its PID namespace can do so.
        kill_process(child, Signal::STOP).unwrap();
        let exec = pod.exec("well", "exit 4", None).await.unwrap();
        assert_eq!(exec.exit.await.unwrap().code, 4);
        // A grace is for programs.
        pod.monitor.stop("never", 15, 3_600_000).await.unwrap();
        let error = starting.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition);
        assert!(error.to_string().contains("stopped before its program"), "{error}");
        assert!(pod.state_of("never").await.is_none());
        assert!(pod.cgroup_of("never").is_none(), "its cgroup is left");
        pod.run("never", "exit 0").await.unwrap();
        pod.monitor.shut_down().await.unwrap();
    }
}

#[tokio::test]
async fn a_start_is_given_up_in_time() {
    requires_root!();
    let Some(hung) = Hung::mount() else { return eprintln!("SKIPPED: no FUSE here") };
    let setup = v1::Setup { start_limit: 5_000, ..v1::Setup::default() };
    let pod = Pod::start_with(setup).await;
    pod.run("well", "sleep 1000").await.unwrap();
    let request = pod.request("never");
    let bundle = pod.bundle_with(&request, "exit 0", &hung.path());
    let error = pod.monitor.start(request, bundle.as_fd(), None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::DeadlineExceeded);
    assert!(error.to_string().contains("may not answer"), "{error}");
    assert!(pod.state_of("never").await.is_none());
    assert!(pod.cgroup_of("never").is_none(), "its cgroup is left");
    // A program that runs has all the time that it wants.
    let exec = pod.exec("well", "sleep 1; exit 6", None).await.unwrap();
    assert_eq!(exec.exit.await.unwrap().code, 6);
    assert!(pod.state_of("well").await.unwrap().exited.is_none());
}

/// What cannot be ended is told, and nothing is taken away from under it.
#[tokio::test]
async fn what_does_not_end_is_told() {
    requires_root!();
    let pod = Pod::start().await;
    pod.run("c", "sleep 1000").await.unwrap();
    let error = pod.monitor.delete("c").await.unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition);
    for words in ["c has not ended", "process "] {
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_frozen_container_is_stopped() {
    requires_root!();
    for (shared, of_pod) in [(false, false), (true, false), (false, true)] {
        let setup = v1::Setup { pid: shared, ..v1::Setup::default() };
        let mut pod = Pod::start_with(setup).await;
        let mode = if shared { v1::PidMode::Pod } else { v1::PidMode::Container };
        let request = v1::Start { pid_mode: mode.into(), ..pod.request("c") };
        pod.run_as(request, "sleep 1000 & sleep 1000").await.unwrap();
        let below = if of_pod { pod.cgroup.clone() } else { format!("{}/c", pod.cgroup) };
        freeze(&below);
        pod.monitor.stop("c", 15, 0).await.unwrap();
        assert_eq!(pod.exited().await.exit_code, 137);
        eventually(|| pod.cgroup_of("c").unwrap().is_empty().unwrap()).await;
        pod.monitor.delete("c").await.unwrap();
        pod.monitor.shut_down().await.unwrap();
    }
}

/// On whichever version of cgroups the machine has.
fn freeze(cgroup: &str) {
    let v1 = format!("/sys/fs/cgroup/freezer{cgroup}/freezer.state");
    let v2 = format!("/sys/fs/cgroup{cgroup}/cgroup.freeze");
    match Path::new(&v1).exists() {
        true => fs::write(v1, "FROZEN").unwrap(),
        false => fs::write(v2, "1").unwrap(),
    }
}

#[tokio::test]
async fn the_end_of_the_pods_init_is_told() {
    requires_root!();
    let mut pod = Pod::start_with(v1::Setup { pid: true, ..v1::Setup::default() }).await;
    let request = |id: &str| v1::Start { pid_mode: v1::PidMode::Pod.into(), ..pod.request(id) };
    let (one, other, third) = (request("one"), request("other"), request("third"));
    pod.run_as(one, "sleep 1000").await.unwrap();
    pod.run_as(other, "sleep 1000").await.unwrap();
    let states = pod.monitor.state().await.unwrap();
    assert!(!states.init_exited);
    kill_process(Pid::from_raw(states.init_pid).unwrap(), Signal::KILL).unwrap();
    let (mut ends, mut told) = (0, false);
    while ends < 2 || !told {
        match tokio::time::timeout(PATIENCE, pod.events.recv()).await.unwrap().unwrap() {
            Event::ContainerExited(exit) => {
                assert_eq!(exit.exit_code, 137);
                ends += 1;
            }
            Event::PodInitExited => told = true,
            Event::CallsRefused(refused) => panic!("nobody has asked: {refused:?}"),
            Event::Gone => panic!("the monitor is gone"),
        }
    }
    for id in ["one", "other"] {
        assert!(ExitRecord::read(pod.directory.path(), id).is_some(), "{id}");
    }
    // For a daemon that was not there.
    assert!(pod.monitor.state().await.unwrap().init_exited);
    let error = pod.run_as(third, "exit 0").await.unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition, "{error}");
}

#[tokio::test]
async fn ends_are_recorded_where_nothing_more_can_be_written() {
    requires_root!();
    let mut pod = Pod::start().await;
    pod.run("c", "sleep 1000").await.unwrap();
    // What was taken for it before is all that it needs.
    let reserve = pod.directory.path().join("c.new");
    assert!(reserve.metadata().unwrap().len() > 100);
    pod.monitor.stop("c", 9, 0).await.unwrap();
    let exit = pod.exited().await;
    let record = ExitRecord::read(pod.directory.path(), "c").unwrap();
    assert_eq!((record.exit_code, record.finished_at), (137, exit.finished_at));
    assert!(!reserve.exists());
    let text = fs::read_to_string(pod.directory.path().join("c.exit")).unwrap();
    assert!(text.contains("\"version\":1"), "{text}");
    // Where nothing could be recorded nothing is started.
    fs::create_dir(pod.directory.path().join("d.new")).unwrap();
    let error = pod.run("d", "exit 0").await.unwrap_err();
    assert!(error.to_string().contains("reserve space for the end of d"), "{error}");
    assert!(pod.state_of("d").await.is_none());
}

#[tokio::test]
async fn a_pod_ends_with_everything_in_it() {
    requires_root!();
    let mut pod = Pod::start_with(v1::Setup { pid: true, ..v1::Setup::default() }).await;
    let shared = v1::Start { pid_mode: v1::PidMode::Pod.into(), ..pod.request("shared") };
    pod.run_as(shared, "trap '' TERM; sleep 1000 & while :; do sleep 1000; done").await.unwrap();
    pod.run("own", "sleep 1000 & sleep 1000").await.unwrap();
    pod.run("over", "exit 0").await.unwrap();
    let mut over = String::new();
    while over != "over" {
        over = pod.exited().await.container;
    }
    let pid = pod.pid();
    pod.monitor.shut_down().await.unwrap();
    for id in ["shared", "own", "over"] {
        assert!(pod.cgroup_of(id).is_none(), "{id}");
    }
    eventually(|| matches!(state_of(pid), None | Some('Z'))).await;
}
