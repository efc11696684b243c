//! The process that reads what strangers have compressed: who takes it over has nothing.

use std::{
    fs,
    io::Write,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, Command, Stdio},
};

use criquet::sys::shared::Shared;
use rustix::{
    net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair},
    pipe::{PipeFlags, pipe_with},
};

use crate::common::{Node, image};

/// The size of the ring that it writes to.
const RING: usize = 6 * (256 << 10);

struct Worker {
    child: Child,
    input: fs::File,
    socket: OwnedFd,
    memory: Shared,
}

impl Worker {
    fn start() -> Self {
        let (input, pipe) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let packets = SocketType::SEQPACKET;
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, packets, SocketFlags::CLOEXEC, None).unwrap();
        let (memory, file) = Shared::create("test", RING).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_criquet"))
            .arg0("criquet-decompress")
            .arg("1000000")
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(theirs))
            .stderr(Stdio::from(file))
            .spawn()
            .unwrap();
        Self { child, input: pipe.into(), socket, memory }
    }
}

#[test]
fn a_worker_has_no_rights() {
    requires_root!();
    let mut worker = Worker::start();
    // What it has made of the first member shows that it has come to its work.
    let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    member.write_all(&vec![7; 300 << 10]).unwrap();
    worker.input.write_all(&member.finish().unwrap()).unwrap();
    let message = hear(&worker.socket);
    assert_eq!(message[0], b'F', "{message:?}");
    assert_eq!(u64::from_le_bytes(message[1..9].try_into().unwrap()), 256 << 10);
    let mut made = [0; 100];
    worker.memory.copy(1000, &mut made);
    assert_eq!(made, [7; 100]);

    let process = format!("/proc/{}", worker.child.id());
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!((field("Seccomp"), field("NoNewPrivs")), ("2".to_owned(), "1".to_owned()));
    for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&field(set), 16).unwrap(), 0, "{set}");
    }
    assert_ne!(field("Uid"), "0");
    assert_ne!(field("Gid"), "0");
    let open = fs::read_dir(format!("{process}/fd")).unwrap().flatten();
    let open: Vec<_> = open.map(|entry| fs::read_link(entry.path()).unwrap()).collect();
    assert!(open.len() <= 4, "{open:?}");
    for file in open {
        let file = file.to_string_lossy().into_owned();
        assert!(file.starts_with("pipe:") || file.starts_with("socket:"), "{file}");
    }
    drop(worker.input);
    let mut last = hear(&worker.socket);
    while last[0] == b'F' {
        last = hear(&worker.socket);
    }
    assert_eq!(last[0], b'D', "{last:?}");
    drop(worker.socket);
    assert!(worker.child.wait().unwrap().success());
}

fn hear(socket: &OwnedFd) -> Vec<u8> {
    let mut message = [0; 256];
    let (length, _) = recv(socket, &mut message[..], RecvFlags::empty()).unwrap();
    message[..length].to_vec()
}

/// Workers of a process, by their names.
fn workers_of(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let pids = children.flat_map(|list| {
        list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
    });
    let is_worker = |pid: &u32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.starts_with(b"criquet-decompress\0")
    };
    pids.filter(is_worker).collect()
}

#[tokio::test]
async fn layers_are_decompressed_in_a_worker() {
    requires_root!();
    let node = Node::start().await;
    let archive = node.path("large.tar");
    image::write_large_archive(&archive, 200 << 20);
    // The daemon does it.
    let mut import = Command::new(env!("CARGO_BIN_EXE_criquet"))
        .args(["image", "import"])
        .arg(&archive)
        .arg("--config")
        .arg(node.path("config.toml"))
        .spawn()
        .unwrap();
    let mut seen = false;
    let status = loop {
        seen |= !workers_of(node.daemon_pid()).is_empty();
        if let Some(status) = import.try_wait().unwrap() {
            break status;
        }
        std::thread::yield_now();
    };
    assert!(status.success());
    assert!(seen, "nobody has seen a worker");
}
