//! What is said, whatever its size and age.

use std::os::fd::AsFd;

use criquet::{
    kind::Kind,
    monitor::{PROTOCOL, client::Monitor, v1},
    sys::socket,
};
use prost::Message as _;
use tokio::sync::mpsc::unbounded_channel;

use crate::{
    pod::{Pod, eventually, wait_until},
    requires_root,
};

#[tokio::test]
async fn a_monitor_says_who_it_is() {
    requires_root!();
    let pod = Pod::start().await;
    let welcome = pod.monitor.welcome().unwrap();
    assert_eq!(welcome.protocol, PROTOCOL);
    assert_eq!(welcome.build, env!("CARGO_PKG_VERSION"));
    // To each daemon that comes.
    let (sender, _events) = unbounded_channel();
    let other = Monitor::connect(&pod.socket(), sender).unwrap();
    other.state().await.unwrap();
    assert_eq!(other.welcome(), Some(welcome));
}

/// The next message of a monitor to somebody who is no daemon.
fn next(socket: &std::os::fd::OwnedFd) -> v1::Message {
    let mut buffer = vec![0; 1 << 16];
    let mut message = None;
    wait_until(|| {
        message = socket::receive(socket.as_fd(), &mut buffer).ok();
        message.is_some()
    });
    v1::Message::decode(&buffer[..message.unwrap().0]).unwrap()
}

#[tokio::test]
async fn what_a_later_daemon_says_is_passed_over_or_refused() {
    requires_root!();
    let pod = Pod::start().await;
    let later = socket::connect_to(&pod.socket()).unwrap();
    let welcome = next(&later).content;
    assert!(matches!(welcome, Some(v1::message::Content::Welcome(_))), "{welcome:?}");
    // A field that is not known, beside a request that is.
    let call = Some(v1::request::Call::State(v1::State {}));
    let mut known = v1::Request { id: 1, call, enclosed: 0 }.encode_to_vec();
    known.extend(UNKNOWN);
    socket::send(later.as_fd(), &known, &[]).unwrap();
    let Some(v1::message::Content::Reply(reply)) = next(&later).content else { panic!() };
    assert!(matches!(reply.result, Some(v1::reply::Result::States(_))), "{reply:?}");
    // A request that is not known.
    let mut unknown = v1::Request { id: 2, call: None, enclosed: 0 }.encode_to_vec();
    unknown.extend(UNKNOWN);
    socket::send(later.as_fd(), &unknown, &[]).unwrap();
    let Some(v1::message::Content::Reply(reply)) = next(&later).content else { panic!() };
    let Some(v1::reply::Result::Failure(failure)) = reply.result else { panic!("{reply:?}") };
    assert_eq!((reply.id, failure.code()), (2, v1::Code::Unimplemented));
    assert!(failure.message.contains("too old"), "{}", failure.message);
}

/// A monitor of another release, as far as a daemon sees of it: it answers every request with
/// a state, after these messages.
fn pretend(messages: Vec<Vec<u8>>) -> (tempfile::TempDir, std::thread::JoinHandle<()>) {
    let directory = tempfile::tempdir().unwrap();
    let listener = socket::listen_at(&directory.path().join("m")).unwrap();
    let serve = move || {
        let mut connection = None;
        wait_until(|| {
            connection = rustix::net::accept(&listener).ok();
            connection.is_some()
        });
        let connection = connection.unwrap();
        for message in messages {
            socket::send(connection.as_fd(), &message, &[]).unwrap();
        }
        let mut buffer = vec![0; 1 << 16];
        while let Ok((length @ 1.., _)) = socket::receive(connection.as_fd(), &mut buffer) {
            let request = v1::Request::decode(&buffer[..length]).unwrap();
            let states = v1::States { init_pid: 77, ..v1::States::default() };
            let result = Some(v1::reply::Result::States(states));
            let reply = v1::message::Content::Reply(v1::Reply { id: request.id, result });
            let mut bytes = v1::Message { content: Some(reply), enclosed: 0 }.encode_to_vec();
            // And a field that is not known.
            bytes.extend(UNKNOWN);
            socket::send(connection.as_fd(), &bytes, &[]).unwrap();
        }
    };
    (directory, std::thread::spawn(serve))
}

fn welcome(protocol: u32) -> Vec<u8> {
    let welcome = v1::Welcome { protocol, build: "9.9.9".to_owned() };
    let content = Some(v1::message::Content::Welcome(welcome));
    v1::Message { content, enclosed: 0 }.encode_to_vec()
}

/// A field that no release has.
const UNKNOWN: [u8; 6] = [0xfa, 0x3f, 3, b'n', b'e', b'w'];

#[tokio::test]
async fn a_daemon_speaks_with_the_releases_before_and_after_it() {
    // One without a welcome, the next one, and an event that is not known.
    for messages in [vec![], vec![welcome(PROTOCOL + 1), UNKNOWN.to_vec()]] {
        let (directory, served) = pretend(messages);
        let (sender, _events) = unbounded_channel();
        let monitor = Monitor::connect(&directory.path().join("m"), sender).unwrap();
        assert_eq!(monitor.state().await.unwrap().init_pid, 77);
        drop(monitor);
        drop(served);
    }
    let (directory, _served) = pretend(vec![welcome(PROTOCOL + 2)]);
    let (sender, _events) = unbounded_channel();
    let monitor = Monitor::connect(&directory.path().join("m"), sender).unwrap();
    let error = monitor.state().await.unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition);
    assert!(error.to_string().contains("9.9.9"), "{error}");
}

#[tokio::test]
async fn a_request_of_any_length_is_taken() {
    requires_root!();
    let mut pod = Pod::start().await;
    // More devices than a message holds.
    let device = |minor: usize| serde_json::json!({"allow": true, "type": "c", "major": 1, "minor": minor, "access": "r"});
    // What a container's own nodes need comes first.
    let all = serde_json::json!({"allow": true, "access": "rwm"});
    let devices = (0..1500).map(|number| device(number % 200));
    let devices: Vec<_> = std::iter::once(all).chain(devices).collect();
    let resources = serde_json::to_vec(&serde_json::json!({ "devices": devices })).unwrap();
    assert!(resources.len() > 64 * 1024);
    let request = v1::Start { resources, ..pod.request("many") };
    pod.run_as(request, "exit 3").await.unwrap();
    assert_eq!(pod.exited().await.exit_code, 3);
    // One that is too long for anything is refused, and the next one is not.
    let endless = "c".repeat(5 << 20);
    let error = pod.monitor.reopen_log(&endless).await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    pod.monitor.state().await.unwrap();
}

#[tokio::test]
async fn an_answer_of_any_length_arrives() {
    requires_root!();
    let pod = Pod::start().await;
    // Few containers with names that make as long an answer as hundreds do.
    let names: Vec<String> =
        (0..3).map(|number| format!("{number}{}", "n".repeat(20_000))).collect();
    for name in &names {
        let request = v1::Start {
            container: name.clone(),
            cgroup: format!("{}/{}", pod.cgroup, &name[..8]),
            log_path: String::new(),
            ..v1::Start::default()
        };
        let short = v1::Start { container: name[..8].to_owned(), ..request.clone() };
        let bundle = pod.bundle(&short, "sleep 1000");
        let error = pod.monitor.start(request, bundle.as_fd(), None).await.err();
        // Such a name is none of a file, so that its end could not be recorded.
        assert!(error.is_some());
    }
    for number in 0..400 {
        let id = format!("{number:0>64}");
        let request = v1::Start { log_path: String::new(), ..pod.request(&id) };
        pod.run_as(request, "exit 0").await.unwrap();
    }
    let mut states = pod.monitor.state().await.unwrap();
    while states.containers.iter().any(|state| state.exited.is_none()) {
        states = pod.monitor.state().await.unwrap();
    }
    assert!(states.encoded_len() > 32 * 1024);
    assert_eq!(states.containers.len(), 400);
    // One that has ended keeps nothing open but its cgroup (v2).
    let open = format!("/proc/{}/fd", pod.pid().as_raw_nonzero());
    eventually(|| std::fs::read_dir(&open).unwrap().count() < 430).await;
}
