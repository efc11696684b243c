//! Streams of every shape: the boundaries of members and frames may be anywhere, and whatever
//! a stream is, its unpacking comes to an end.

use std::{sync::mpsc, time::Duration};

use super::*;
use crate::image::{
    tar::tests::Builder,
    tests::registry::{gzip, noise_bytes},
    unpack::tests::is_root,
};

/// Unpacks within a time that no working decompression comes near: a hang is told as one.
fn run(stored: &[u8], plain: &[u8]) -> Result<Unpacked, Error> {
    run_in_pieces(stored, plain, usize::MAX)
}

/// In a thread and, where the program is built, in a worker: with the same outcome.
fn run_in_pieces(stored: &[u8], plain: &[u8], piece: usize) -> Result<Unpacked, Error> {
    let outcome = run_with(None, stored, plain, piece);
    let Some(program) = program() else {
        eprintln!("SKIPPED: no worker: criquet is not built beside the tests");
        return outcome;
    };
    let other = run_with(Some(program), stored, plain, piece);
    match (&outcome, &other) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        (Err(one), Err(other)) => {
            assert_eq!(one.kind(), other.kind(), "{one} and {other}");
            assert_eq!(one.to_string(), other.to_string());
        }
        _ => panic!("in a thread {outcome:?}, in a worker {other:?}"),
    }
    other
}

/// Criquet, where it was built with these tests.
fn program() -> Option<Program> {
    let own = std::env::current_exe().unwrap();
    let program = own.parent()?.parent()?.join("criquet");
    program.exists().then(|| Program::at(&program))
}

fn run_with(
    worker: Option<Program>,
    stored: &[u8],
    plain: &[u8],
    piece: usize,
) -> Result<Unpacked, Error> {
    let (stored, plain) = (stored.to_vec(), plain.to_vec());
    let (answer, outcome) = mpsc::channel();
    thread::spawn(move || {
        let directory = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(directory.path()).unwrap();
        let expected =
            Expected { compressed: Some(Digest::of(&stored)), diff_id: Digest::of(&plain) };
        let target = Target { root: root.into(), recipe: None };
        let source = Pieces { left: &stored, piece };
        let bounds = Bounds { worker, ..bounds() };
        answer.send(unpack_layer(source, target, &expected, &bounds)).unwrap();
    });
    outcome.recv_timeout(Duration::from_secs(60)).expect("the layer is unpacked or refused")
}

fn bounds() -> Bounds {
    let (windows, stop) = (Default::default(), Stop::default());
    Bounds { windows, stop, always_allowed: 1 << 20, worker: None }
}

/// Gives so many bytes at a time.
struct Pieces<'a> {
    left: &'a [u8],
    piece: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(self.piece);
        self.left.read(&mut buffer[..length])
    }
}

fn zstd_frame(plain: &[u8]) -> Vec<u8> {
    zstd::encode_all(plain, 1).unwrap()
}

fn gzip_member(plain: &[u8]) -> Vec<u8> {
    gzip(plain.to_vec()).stored
}

const SKIPPED: &[u8] = b"\x5a\x2a\x4d\x18\x04\0\0\0skip";

/// Every way to cut a layer in parts that tools have, and some that none has.
fn cuts(plain: &[u8]) -> Vec<Vec<&[u8]>> {
    let empty: &[u8] = b"";
    let mut cuts: Vec<Vec<&[u8]>> =
        [1 << 16, 256 << 10, (256 << 10) - 1, 512 << 10].map(|n| plain.chunks(n).collect()).into();
    cuts.push([[empty; 40].as_slice(), &[plain], &[empty; 40]].concat());
    let mixed = plain.chunks(256 << 10).flat_map(|part| [empty, part, empty]);
    cuts.push(mixed.collect());
    cuts
}

#[test]
fn members_and_frames_end_anywhere() {
    if !is_root() {
        return;
    }
    // A multiple of the buffers that travel between the threads, and then some.
    let plain = Builder::default().file("x", &noise_bytes(3 << 20)).end();
    for parts in cuts(&plain) {
        let members: Vec<u8> = parts.iter().flat_map(|part| gzip_member(part)).collect();
        run(&members, &plain).unwrap();
        run(&[&members[..], &[0; 700]].concat(), &plain).unwrap();
        let frames = parts.iter().flat_map(|part| [zstd_frame(part), SKIPPED.to_vec()].concat());
        let frames: Vec<u8> = [SKIPPED.to_vec(), frames.collect()].concat();
        run(&frames, &plain).unwrap();
        run(&[&frames[..], &[0; 700]].concat(), &plain).unwrap();
    }
}

#[test]
fn a_boundary_may_lie_between_two_reads() {
    if !is_root() {
        return;
    }
    let plain = Builder::default().file("x", &noise_bytes(3000)).end();
    let parts = || plain.chunks(100);
    let members: Vec<u8> = parts().flat_map(gzip_member).collect();
    let frames: Vec<u8> =
        parts().flat_map(|part| [zstd_frame(part), SKIPPED.to_vec()].concat()).collect();
    for piece in [1, 2, 3, 5, 17, 19] {
        run_in_pieces(&members, &plain, piece).unwrap();
        run_in_pieces(&frames, &plain, piece).unwrap();
        run_in_pieces(&plain, &plain, piece).unwrap();
    }
}

#[test]
fn bombs_and_damage_have_their_kinds() {
    if !is_root() {
        return;
    }
    let good = Builder::default().file("x", &vec![b'a'; 700_000]).end();
    run(&good, &good).unwrap();
    run(&zstd_frame(&good), &good).unwrap();
    // An archive may be followed by anything: the diff id covers it.
    let longer = [&good[..], &[1; 3000]].concat();
    run(&zstd_frame(&longer), &longer).unwrap();
    let bomb = Builder::default().file("zeros", &vec![0; 30 << 20]).end();
    let broken = &zstd_frame(&good)[..50];
    let xz = b"\xfd7zXZ\0 and so on";
    let follows = |stored: Vec<u8>, what: &[u8]| [&stored[..], what].concat();
    for (stored, plain, kind) in [
        (&zstd_frame(&bomb)[..], &bomb[..], Kind::ResourceExhausted),
        (broken, &good[..], Kind::DataLoss),
        (&xz[..], &xz[..], Kind::DataLoss),
        (&good[..900], &good[..900], Kind::DataLoss),
        (b"no archive", b"no archive", Kind::DataLoss),
        (&good, &longer, Kind::DataLoss),
        (&follows(zstd_frame(&good), b"whatever follows"), &good, Kind::DataLoss),
        (&follows(gzip_member(&good), b"whatever follows"), &good, Kind::DataLoss),
        (&follows(gzip_member(&good), &zstd_frame(b"more")), &good, Kind::DataLoss),
        (&follows(zstd_frame(&good), &SKIPPED[..9]), &good, Kind::DataLoss),
    ] {
        let error = run(stored, plain).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[test]
fn a_window_that_is_too_large_is_told_as_such() {
    if !is_root() {
        return;
    }
    let plain = Builder::default().file("x", b"1").end();
    let frame = |log| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        io::Write::write_all(&mut encoder, &plain).unwrap();
        encoder.finish().unwrap()
    };
    run(&frame(27), &plain).unwrap();
    let error = run(&frame(31), &plain).unwrap_err();
    assert_eq!(error.kind(), Kind::ResourceExhausted);
    let text = error.to_string();
    assert!(text.contains("memory") && text.contains("2048 MiB"), "{text}");
}

#[test]
fn work_that_nobody_wants_ends() {
    if !is_root() {
        return;
    }
    for worker in [None, program()] {
        ends_when_nobody_wants_it(worker);
    }
}

/// All that is fetched already still makes a file of any size.
struct Endless;
impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        buffer.fill(0);
        Ok(buffer.len())
    }
}

fn ends_when_nobody_wants_it(worker: Option<Program>) {
    let directory = tempfile::tempdir().unwrap();
    let root = std::fs::File::open(directory.path()).unwrap();
    let header = Builder::default().pax(&[("size", b"1099511627776")]).file("x", b"").end();
    let source = io::Cursor::new(header[..3 * 512].to_vec()).chain(Endless);
    let bounds = Bounds { worker, ..bounds() };
    let guard = bounds.stop.on_drop(bounds.windows.clone());
    let (answer, outcome) = mpsc::channel();
    thread::spawn(move || {
        let expected = Expected { compressed: None, diff_id: Digest::of(b"") };
        let target = Target { root: root.into(), recipe: None };
        answer.send(unpack_layer(source, target, &expected, &bounds).is_err()).unwrap();
    });
    drop(guard);
    assert!(outcome.recv_timeout(Duration::from_secs(60)).expect("it ends"));
}
