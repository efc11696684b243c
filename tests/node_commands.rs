//! The commands for people on a node, as people call them: a real daemon, real pods, and what
//! is printed.

mod common;

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command, Output, Stdio},
};

use common::{
    Node, eventually,
    requests::{sandbox, script},
};
use criquet::cri::v1;
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

/// `criquet` in the network namespace of the node: the streaming server is on its loopback.
fn command(node: &Node, arguments: &[&str]) -> Command {
    let mut command = node.inside(env!("CARGO_BIN_EXE_criquet"));
    let (first, rest) = arguments.split_first().unwrap();
    command.arg(first).arg("--config").arg(node.path("config.toml")).args(rest);
    command.stdin(Stdio::null()).env_remove("NO_COLOR");
    command
}

/// What it prints. The node's calls go on meanwhile, and are those of another thread.
async fn criquet(node: &Node, arguments: &[&str]) -> Output {
    let mut command = command(node, arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What it prints where all is well.
async fn printed(node: &Node, arguments: &[&str]) -> String {
    let output = criquet(node, arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn pod(node: &Node, name: &str) -> v1::PodSandboxConfig {
    let mut config = sandbox(node, name);
    config.log_directory = node.path(&format!("logs-{name}")).display().to_string();
    config.labels = [("app".to_owned(), name.to_owned())].into();
    config.port_mappings =
        vec![v1::PortMapping { container_port: 80, host_port: 8080, ..Default::default() }];
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_looked_at() {
    requires_root!();
    let mut node = Node::start().await;
    assert_eq!(printed(&node, &["ps"]).await, "no pods\n");
    let web = pod(&node, "web");
    let web = node.run(web).await.unwrap();
    node.launch(&web, script("app", "sleep 1000")).await;
    let ended = node.launch(&web, script("once", "exit 3")).await;
    node.end_of(&ended).await;
    let mut other = pod(&node, "db");
    other.port_mappings.clear();
    other.metadata.as_mut().unwrap().namespace = "other".to_owned();
    let other = node.run(other).await.unwrap();
    node.launch(&other, script("app", "sleep 1000")).await;

    let ps = printed(&node, &["ps"]).await;
    println!("{ps}");
    let line = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        line.unwrap_or_else(|| panic!("no {name} in\n{text}"))
    };
    assert!(
        line(&ps, "tests/web").contains(" ready ") && line(&ps, "tests/web").contains("10.88.")
    );
    assert!(line(&ps, "└ app").contains(" running "), "{ps}");
    assert!(ps.ends_with("1 that ended are not shown; -a shows them\n"), "{ps}");
    assert!(!ps.contains('\x1b') && ps.lines().all(|line| line.chars().count() <= 80), "{ps}");
    let all = printed(&node, &["ps", "-a"]).await;
    assert!(line(&all, "└ once").contains(" exited 3 "), "{all}");
    let one = printed(&node, &["ps", "-n", "other"]).await;
    assert!(one.contains("other/db") && !one.contains("tests/web"), "{one}");
    let one = printed(&node, &["ps", "-l", "app=web"]).await;
    assert!(!one.contains("other/db") && one.contains("tests/web"), "{one}");
    let json = printed(&node, &["ps", "-o", "json", "web"]).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["pods"][0]["containers"][0]["name"], "app");
    assert_eq!(json["pods"].as_array().unwrap().len(), 1);

    let top = printed(&node, &["top", "--once", "--sort", "memory"]).await;
    println!("{top}");
    assert!(top.starts_with("2 pods, 2 containers, "), "{top}");
    assert!(!top.contains("once"), "{top}");
    let refused = criquet(&node, &["top"]).await;
    assert!(text(&refused.stderr).contains("needs a terminal; use --once"));

    let seen = printed(&node, &["inspect", "tests/web"]).await;
    println!("{seen}");
    assert!(seen.starts_with("pod tests/web is ready\n"), "{seen}");
    assert!(seen.contains("8080 leads to 80/tcp"), "{seen}");
    assert!(line(&seen, "  net ").ends_with("the pod, app"), "{seen}");
    assert!(line(&seen, "  user ").ends_with("the host, app"), "{seen}");
    let seen = printed(&node, &["inspect", "web/app"]).await;
    println!("{seen}");
    assert!(line(&seen, "  command ").ends_with("sh -c 'sleep 1000'"), "{seen}");
    assert!(line(&seen, "  capabilities ").contains("audit_write chown"), "{seen}");
    assert!(line(&seen, "  users ").ends_with("those of the host"), "{seen}");
    assert!(seen.contains("  /etc/hosts ") && seen.contains("(from the pod)"), "{seen}");
    let seen = printed(&node, &["inspect", "-o", "json", &ended[..8]]).await;
    let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen["container"]["exit_code"], 3);
    assert_eq!(seen["pod"]["name"], "web");

    let nobody = criquet(&node, &["inspect", "nobody"]).await;
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody.stderr).contains("called nobody; `criquet ps -a`"));
    let several = criquet(&node, &["logs", "app"]).await;
    assert!(text(&several.stderr).contains("tests/web/app"), "{}", text(&several.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_answers() {
    requires_root!();
    let mut node = Node::start().await;
    node.kill_daemon();
    for arguments in [
        &["ps"][..],
        &["top", "--once"],
        &["inspect", "x"],
        &["logs", "x"],
        &["exec", "x", "--", "true"],
    ] {
        let output = criquet(&node, arguments).await;
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        assert!(text(&output.stderr).contains("no daemon answers at"), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_a_container() {
    requires_root!();
    let mut node = Node::start().await;
    let web = pod(&node, "web");
    let web = node.run(web).await.unwrap();
    let mut first = script("app", "echo before; exit 1");
    first.log_path = "app/0.log".to_owned();
    let first = node.launch(&web, first).await;
    node.end_of(&first).await;
    let mut second = script("app", "echo one; echo two >&2; echo three; sleep 1000");
    second.metadata.as_mut().unwrap().attempt = 1;
    second.log_path = "app/1.log".to_owned();
    let log = node.container_log(&second);
    let log = node.path("logs-web").join(log.strip_prefix(node.path("logs")).unwrap());
    let second = node.launch(&web, second).await;
    eventually("the log has its lines", async || common::log_texts(&log, "stdout").len() == 2)
        .await;

    assert_eq!(printed(&node, &["logs", "app"]).await, "one\nthree\n");
    assert_eq!(text(&criquet(&node, &["logs", "web/app"]).await.stderr), "two\n");
    assert_eq!(printed(&node, &["logs", "-p", "app"]).await, "before\n");
    // The two streams are two pipes: which line is the last is not known.
    let last = criquet(&node, &["logs", "--tail", "1", "app"]).await;
    assert_eq!([last.stdout, last.stderr].concat().split(|byte| *byte == b'\n').count(), 2);
    assert_eq!(printed(&node, &["logs", "--since", "1h", "app"]).await, "one\nthree\n");
    assert_eq!(printed(&node, &["logs", "--since", "2200-01-01T00:00:00Z", "app"]).await, "");
    assert!(printed(&node, &["logs", "-t", "app"]).await.contains("Z one\n"));
    let wrong = criquet(&node, &["logs", "--since", "yesterday", "app"]).await;
    assert!(text(&wrong.stderr).contains("--since is neither"), "{}", text(&wrong.stderr));

    let mut follow = command(&node, &["logs", "-f", "app"]);
    let mut following = follow.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut next = move || lines.next().map(Result::unwrap);
    assert_eq!(next().as_deref(), Some("one"));
    assert_eq!(next().as_deref(), Some("three"));
    node.output(&second, "echo four > /proc/1/fd/1").await;
    assert_eq!(next().as_deref(), Some("four"));
    node.stop(&second, 0).await.unwrap();
    assert_eq!(next(), None, "it ends with the container");
    assert!(following.wait().unwrap().success());
    assert_eq!(printed(&node, &["logs", "app", "--tail", "1"]).await, "four\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_in_a_container() {
    requires_root!();
    let mut node = Node::start().await;
    let web = pod(&node, "web");
    let web = node.run(web).await.unwrap();
    node.launch(&web, script("app", "sleep 1000")).await;

    let shell = ["exec", "app", "--", "sh", "-c", "echo out; echo err >&2; exit 7"];
    let output = criquet(&node, &shell).await;
    assert_eq!(output.status.code(), Some(7));
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("out\n".into(), "err\n".into()));

    let absent = criquet(&node, &["exec", "app", "--", "/nothing"]).await;
    assert!(!absent.status.success());
    assert!(text(&absent.stderr).contains("/nothing"), "{}", text(&absent.stderr));
    let no_terminal = criquet(&node, &["exec", "-t", "app", "--", "sh"]).await;
    assert!(text(&no_terminal.stderr).contains("-t needs a terminal"));

    // More than fits into any buffer on the way, there and back.
    let mut cat = command(&node, &["exec", "-i", "app", "--", "cat"]);
    let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let bytes: Vec<u8> = (0..4_000_000u32).map(|number| (number % 251) as u8).collect();
    let mut input = cat.stdin.take().unwrap();
    let sent = bytes.clone();
    let writing = std::thread::spawn(move || input.write_all(&sent).unwrap());
    let mut echoed = Vec::new();
    cat.stdout.take().unwrap().read_to_end(&mut echoed).unwrap();
    writing.join().unwrap();
    assert!(cat.wait().unwrap().success());
    assert!(echoed == bytes, "{} bytes came back", echoed.len());
}

/// A command with a terminal of its own, and the other side of it.
fn with_terminal(mut command: Command) -> (Child, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    tcsetwinsize(&master, Winsize { ws_row: 31, ws_col: 97, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let slave = || File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    command.stdin(slave()).stdout(slave()).stderr(slave()).env("TERM", "xterm");
    (command.spawn().unwrap(), master)
}

/// Reads from a terminal until a text has come.
fn read_until(terminal: &mut File, wanted: &str) -> String {
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    while !text(&seen).contains(wanted) {
        let count = terminal.read(&mut piece).unwrap_or(0);
        assert!(count > 0, "{wanted:?} did not come: {:?}", text(&seen));
        seen.extend_from_slice(&piece[..count]);
    }
    text(&seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_in_a_container_and_one_that_shows_what_runs() {
    requires_root!();
    let mut node = Node::start().await;
    let web = pod(&node, "web");
    let web = node.run(web).await.unwrap();
    node.launch(&web, script("app", "sleep 1000")).await;

    let shell = command(&node, &["exec", "-it", "app", "--", "sh"]);
    let (mut child, master) = with_terminal(shell);
    let mut terminal = File::from(master);
    read_until(&mut terminal, "# ");
    terminal.write_all(b"stty size\n").unwrap();
    read_until(&mut terminal, "31 97");
    let size = Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal, size).unwrap();
    // The terminal is nobody's controlling one, so that nobody is told of its size.
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::WINCH).unwrap();
    eventually("the new size is there", async || {
        terminal.write_all(b"stty size; echo told\n").unwrap();
        read_until(&mut terminal, "told\r\n").contains("40 120")
    })
    .await;
    terminal.write_all(b"exit 9\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));

    let (mut child, master) = with_terminal(command(&node, &["top"]));
    let mut terminal = File::from(master);
    let screen = read_until(&mut terminal, "app");
    assert!(screen.contains("\x1b[32mready"), "{screen:?}");
    terminal.write_all(b"q").unwrap();
    assert!(child.wait().unwrap().success());
    read_until(&mut terminal, "\x1b[?1049l");
}
