//! Against a bus of the test's own and something on it that answers like systemd.

use std::{
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::StreamExt;
use zbus::{Connection, MessageStream, ObjectPath, connection::Builder, message::Type};

use super::{Error, Scope, Systemd};

const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

/// A bus; it ends with the test.
struct Bus {
    daemon: Child,
    directory: tempfile::TempDir,
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Bus {
    /// None where the machine has no `dbus-daemon`.
    fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let address = format!("unix:path={}/bus", directory.path().display());
        let config = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\
             <busconfig><listen>{address}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/>\
             <allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>"
        );
        let file = directory.path().join("config");
        std::fs::write(&file, config).unwrap();
        Self::run(directory)
    }

    fn run(directory: tempfile::TempDir) -> Option<Self> {
        let file = directory.path().join("config");
        let daemon = Command::new("dbus-daemon")
            .args(["--nofork", "--print-address", "--config-file"])
            .arg(file)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut daemon) = daemon else {
            eprintln!("SKIPPED: there is no dbus-daemon");
            return None;
        };
        // It listens once it says where.
        let output = daemon.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut String::new())
            .unwrap();
        Some(Self { daemon, directory })
    }

    fn address(&self) -> String {
        format!("unix:path={}/bus", self.directory.path().display())
    }
}

/// What something like systemd does with a call.
enum Deed {
    /// Answers with a job, which ends with this result.
    Job(&'static str),
    /// Tells the end of the job before it answers.
    JobAtOnce(&'static str),
    /// Answers with an error.
    Refuse(&'static str),
    /// Does not answer, and is gone from the bus.
    Vanish,
    /// Answers with nothing in it.
    Done,
}

/// Puts something like systemd on the bus, which asks what to do with each call.
async fn systemd_on(
    bus: &str,
    decide: impl Fn(&str, usize) -> Deed + Send + 'static,
) -> Arc<AtomicUsize> {
    let connection = serve(bus).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let (count, bus) = (Arc::clone(&calls), bus.to_owned());
    tokio::spawn(async move {
        let mut connection = connection;
        loop {
            let mut stream = MessageStream::from(&connection);
            let mut is_there = true;
            while is_there {
                let Some(Ok(message)) = stream.next().await else { return };
                let header = message.header();
                if header.message_type() != Type::MethodCall
                    || header.interface().map(|name| name.as_str()) != Some(MANAGER)
                {
                    continue;
                }
                let method = header.member().unwrap().to_string();
                let number = match method.as_str() {
                    "Subscribe" => 0,
                    _ => count.fetch_add(1, Ordering::SeqCst),
                };
                let deed = match method.as_str() {
                    "Subscribe" => Deed::Done,
                    other => decide(other, number),
                };
                let job = ObjectPath::try_from("/org/freedesktop/systemd1/job/1").unwrap();
                let ended = async |result: &str| {
                    let body = message.body();
                    let unit = match body.deserialize::<(String, String)>() {
                        Ok((unit, _)) => unit,
                        Err(_) => "criquet-1.scope".to_owned(),
                    };
                    let signal = (1_u32, job.clone(), unit, result);
                    let path = "/org/freedesktop/systemd1";
                    let none: Option<&str> = None;
                    connection
                        .emit_signal(none, path, MANAGER, "JobRemoved", &signal)
                        .await
                        .unwrap();
                };
                match deed {
                    Deed::Done => connection.reply(&header, &()).await.unwrap(),
                    Deed::Refuse(name) => {
                        connection.reply_error(&header, name, &"no").await.unwrap();
                    }
                    Deed::Job(result) => {
                        connection.reply(&header, &job).await.unwrap();
                        ended(result).await;
                    }
                    Deed::JobAtOnce(result) => {
                        ended(result).await;
                        connection.reply(&header, &job).await.unwrap();
                    }
                    Deed::Vanish => is_there = false,
                }
            }
            drop(stream);
            connection.close().await.unwrap();
            connection = serve(&bus).await;
        }
    });
    calls
}

async fn serve(bus: &str) -> Connection {
    Builder::address(bus).name("org.freedesktop.systemd1").build().await.unwrap()
}

/// A scope that this very process is in already, as far as names go.
fn scope() -> Scope {
    Scope {
        name: "criquet-1.scope".to_owned(),
        slice: "criquet.slice".to_owned(),
        description: "a pod".to_owned(),
        pid: std::process::id(),
    }
}

/// Of a start that systemd says is done: nobody has really moved this process.
fn is_misplaced(result: Result<(), Error>) -> bool {
    matches!(result, Err(Error::Misplaced { .. }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_is_there_when_its_job_is_done() {
    for deed in [|| Deed::Job("done"), || Deed::JobAtOnce("done")] {
        let Some(bus) = Bus::start() else { return };
        let calls = systemd_on(&bus.address(), move |_, _| deed()).await;
        assert!(is_misplaced(Systemd::at(&bus.address()).start_scope(&scope()).await));
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_is_told_with_its_result() {
    let Some(bus) = Bus::start() else { return };
    systemd_on(&bus.address(), |_, _| Deed::Job("failed")).await;
    let error = Systemd::at(&bus.address()).start_scope(&scope()).await.unwrap_err();
    assert!(error.to_string().contains("ended with \"failed\""), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_with_its_reason() {
    let Some(bus) = Bus::start() else { return };
    let name = "org.freedesktop.DBus.Error.AccessDenied";
    systemd_on(&bus.address(), move |_, _| Deed::Refuse(name)).await;
    let error = Systemd::at(&bus.address()).start_scope(&scope()).await.unwrap_err();
    assert!(error.to_string().contains("refuses StartTransientUnit: no"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_is_left_is_ended_first() {
    let Some(bus) = Bus::start() else { return };
    let calls = systemd_on(&bus.address(), |method, number| match (method, number) {
        ("StartTransientUnit", 0) => Deed::Refuse(UNIT_EXISTS),
        ("ResetFailedUnit", _) => Deed::Done,
        _ => Deed::Job("done"),
    })
    .await;
    assert!(is_misplaced(Systemd::at(&bus.address()).start_scope(&scope()).await));
    // Refused, stopped, reset, and made.
    assert_eq!(calls.load(Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_systemd_that_is_gone_and_back_is_asked_again() {
    let Some(bus) = Bus::start() else { return };
    let calls = systemd_on(&bus.address(), |_, number| match number {
        0 => Deed::Vanish,
        _ => Deed::Job("done"),
    })
    .await;
    assert!(is_misplaced(Systemd::at(&bus.address()).start_scope(&scope()).await));
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_is_gone_and_back_is_connected_to_again() {
    let Some(mut bus) = Bus::start() else { return };
    systemd_on(&bus.address(), |_, _| Deed::Job("done")).await;
    let systemd = Systemd::at(&bus.address());
    assert!(is_misplaced(systemd.start_scope(&scope()).await));
    bus.daemon.kill().unwrap();
    bus.daemon.wait().unwrap();
    std::fs::remove_file(bus.directory.path().join("bus")).unwrap();
    let starting = tokio::spawn({
        let systemd = systemd.clone();
        async move { systemd.start_scope(&scope()).await }
    });
    let directory = std::mem::replace(&mut bus.directory, tempfile::tempdir().unwrap());
    let bus = Bus::run(directory).unwrap();
    systemd_on(&bus.address(), |_, _| Deed::Job("done")).await;
    assert!(is_misplaced(starting.await.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_ended() {
    let Some(bus) = Bus::start() else { return };
    let no_such = "org.freedesktop.systemd1.NoSuchUnit";
    let calls = systemd_on(&bus.address(), move |_, _| Deed::Refuse(no_such)).await;
    Systemd::at(&bus.address()).stop_scope("criquet-1.scope").await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_fails_is_tried_until_it_succeeds() {
    let Some(bus) = Bus::start() else { return };
    let (sender, mut done) = tokio::sync::mpsc::unbounded_channel();
    systemd_on(&bus.address(), move |method, number| match (method, number) {
        (_, 0 | 1) => Deed::Refuse("org.freedesktop.DBus.Error.Failed"),
        ("ResetFailedUnit", _) => {
            let _ = sender.send(());
            Deed::Done
        }
        _ => Deed::Job("done"),
    })
    .await;
    Systemd::at(&bus.address()).stop_scope("criquet-1.scope").await;
    done.recv().await.unwrap();
}

#[tokio::test]
async fn without_a_bus_the_reason_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("unix:path={}/absent", directory.path().display());
    let error = Systemd::at(&address).version().await.unwrap_err();
    assert!(error.to_string().contains("dbus.socket"), "{error}");
}
