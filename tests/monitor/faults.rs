//! Each call against a monitor that does not answer, and one that is gone.

use std::{fs, future::Future, os::fd::AsFd, pin::Pin, time::Duration};

use criquet::{
    kind::Kind,
    monitor::{
        client::{Error, Event, Monitor},
        v1,
    },
};
use rustix::process::{Signal, kill_process};
use tokio::sync::mpsc::unbounded_channel;

use crate::{
    pod::{Pod, eventually},
    requires_root,
};

type Outcome<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>>;

/// Every call of a client, by its name. A pod has the container `c`, which runs, and `d`.
fn calls(pod: &Pod) -> Vec<(&'static str, Outcome<'_>)> {
    let monitor = &pod.monitor;
    let (pipe, writer) = std::io::pipe().unwrap();
    drop(pipe);
    vec![
        ("state", Box::pin(async { monitor.state().await.map(drop) })),
        ("start", Box::pin(async { pod.run("new", "exit 0").await.map(drop) })),
        ("exec", Box::pin(async { pod.exec("c", "exit 0", None).await.map(drop) })),
        (
            "attach",
            Box::pin(async move {
                monitor.attach("c", false, Some(writer.as_fd()), None).await.map(drop)
            }),
        ),
        ("close input", Box::pin(monitor.close_input("c"))),
        ("reopen log", Box::pin(monitor.reopen_log("c"))),
        ("update", Box::pin(async { monitor.update("c", &serde_json::json!({})).await })),
        ("kill exec", Box::pin(monitor.kill_exec(1))),
        ("stop", Box::pin(monitor.stop("d", 15, 0))),
        ("delete", Box::pin(monitor.delete("absent"))),
        ("prepare", Box::pin(monitor.prepare())),
        ("setup", Box::pin(monitor.set_up(v1::Setup::default(), None))),
        ("shutdown", Box::pin(monitor.shut_down())),
    ]
}

async fn with_two_containers() -> Pod {
    let pod = Pod::start().await;
    pod.run("c", "sleep 1000").await.unwrap();
    pod.run("d", "sleep 1000").await.unwrap();
    pod
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test]
async fn no_call_waits_for_ever_for_a_monitor_that_does_not_answer() {
    requires_root!();
    let mut pod = with_two_containers().await;
    let patient = pod.monitor.clone();
    pod.monitor = patient.within(Duration::from_millis(20));
    let frozen = pod.freeze();
    for (name, call) in calls(&pod).into_iter().filter(|(name, _)| *name != "shutdown") {
        match call.await {
            Err(error @ Error::Timeout { call, .. }) => {
                assert_eq!(call, name);
                assert_eq!(error.kind(), Kind::DeadlineExceeded);
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    // Others connect meanwhile, as a daemon that is started again and again does.
    let connections: Vec<_> =
        (0..60).map(|_| Monitor::connect(&pod.socket(), unbounded_channel().0).map(drop)).collect();
    assert!(connections.iter().all(Result::is_ok), "{connections:?}");
    drop(frozen);
    // What comes late is dropped, and the same connection is as good as before.
    let states = patient.state().await.unwrap().containers;
    assert!(states.iter().any(|state| state.container == "c" && state.exited.is_none()));
    // A start that nobody waits for any more is taken back.
    let monitor = patient.clone();
    let gone = async || {
        let states = monitor.state().await.unwrap().containers;
        let new = states.into_iter().find(|state| state.container == "new");
        new.is_none_or(|state| state.exited.is_some())
    };
    while !gone().await {
        tokio::task::yield_now().await;
    }
    patient.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_full_queue_is_not_the_death_of_a_monitor() {
    requires_root!();
    let pod = with_two_containers().await;
    let frozen = pod.freeze();
    let mut waiting = Vec::new();
    let error = loop {
        match Monitor::connect(&pod.socket(), unbounded_channel().0) {
            Ok(monitor) => waiting.push(monitor),
            Err(error) => break error,
        }
        assert!(waiting.len() < 10_000, "the queue has no end");
    };
    assert!(matches!(error, Error::Unreachable(_)), "{error}");
    assert_eq!(error.kind(), Kind::Unavailable);
    drop(frozen);
    assert!(pod.state_of("c").await.unwrap().exited.is_none());
}

#[tokio::test]
async fn every_call_to_a_monitor_that_dies_says_that_it_is_gone() {
    requires_root!();
    let names: Vec<_> = calls(&Pod::start().await).iter().map(|(name, _)| *name).collect();
    for wanted in names {
        let mut pod = with_two_containers().await;
        let frozen = pod.freeze();
        let call = calls(&pod).into_iter().find(|(name, _)| *name == wanted).unwrap().1;
        let killed = async {
            tokio::task::yield_now().await;
            kill_process(pod.pid(), Signal::KILL).unwrap();
        };
        let (outcome, ()) = tokio::join!(call, killed);
        assert!(matches!(outcome, Err(Error::Gone)), "{wanted}: {outcome:?}");
        drop(frozen);
        while !matches!(pod.events.recv().await, Some(Event::Gone) | None) {}
        // The kernel closes what a process has open one after the other.
        let connect = || Monitor::connect(&pod.socket(), unbounded_channel().0);
        eventually(|| matches!(connect(), Err(Error::Gone))).await;
    }
}

#[tokio::test]
async fn answers_that_come_late_leave_no_descriptor() {
    requires_root!();
    let pod = Pod::start().await;
    let request = v1::Start { stdin: true, ..pod.request("c") };
    pod.run_as(request, "sleep 1000").await.unwrap();
    let hasty = pod.monitor.within(Duration::from_millis(5));
    let attach = async |monitor: &Monitor| {
        let (_reader, writer) = std::io::pipe().unwrap();
        monitor.attach("c", true, Some(writer.as_fd()), None).await
    };
    assert!(attach(&pod.monitor).await.unwrap().input.is_some());
    let before = open_descriptors();
    let frozen = pod.freeze();
    for _ in 0..20 {
        assert!(matches!(attach(&hasty).await, Err(Error::Timeout { .. })));
    }
    drop(frozen);
    pod.monitor.state().await.unwrap();
    // Other tests of this process open and close theirs.
    eventually(|| open_descriptors() < before + 20).await;
}
