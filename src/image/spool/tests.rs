//! Spools as files: what is taken up, and what goes.

use std::{io::Read, thread};

use bytes::Bytes;

use super::{chunks::CHUNK, *};

const SIZE: u64 = 2 * CHUNK + 5;

fn content() -> Bytes {
    (0..SIZE).map(|index| (index % 251) as u8).collect()
}

fn write(spool: &Spool, start: u64, end: u64) {
    let part = content().slice(start as usize..end as usize);
    spool.write(start, 0, &[part]).unwrap();
}

#[test]
fn a_reader_follows_the_writers() {
    let root = tempfile::tempdir().unwrap();
    let spools = Spools::open(root.path(), "boot").unwrap();
    let spool = spools.take(&Digest::of(b"a"), SIZE).unwrap().unwrap();
    let filling = spool.filling();
    let mut reader = spool.reader();
    let reading = thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).map(|_| all)
    });
    // The end comes first, and the rest in pieces that end within chunks.
    write(&spool, CHUNK, SIZE);
    let first = content().slice(..CHUNK as usize);
    spool.write(0, 0, &[first.slice(..100), first.slice(100..5000)]).unwrap();
    spool.write(0, 5000, &[first.slice(5000..)]).unwrap();
    assert_eq!(reading.join().unwrap().unwrap(), content());
    drop(filling);
    let mut reader = spool.reader();
    assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap() as u64, SIZE);
}

#[test]
fn a_reader_does_not_wait_for_what_will_not_come() {
    let root = tempfile::tempdir().unwrap();
    let spools = Spools::open(root.path(), "boot").unwrap();
    let spool = spools.take(&Digest::of(b"a"), SIZE).unwrap().unwrap();
    let filling = spool.filling();
    let mut reader = spool.reader();
    let reading = thread::spawn(move || reader.read_to_end(&mut Vec::new()));
    write(&spool, 0, CHUNK);
    drop(filling);
    let error = reading.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn the_next_attempt_finds_what_is_whole() {
    let root = tempfile::tempdir().unwrap();
    let digest = Digest::of(b"a");
    let spools = Spools::open(root.path(), "boot").unwrap();
    let spool = spools.take(&digest, SIZE).unwrap().unwrap();
    assert!(spools.take(&digest, SIZE).unwrap().is_none(), "one has it");
    assert!(spools.take(&digest, SIZE + 1).unwrap().is_some(), "another size is another blob");
    write(&spool, CHUNK, 2 * CHUNK + 1);
    assert_eq!(spools.usage(), CHUNK);
    drop((spool, spools));
    // As after a kill, which runs no destructor either.
    let spools = Spools::open(root.path(), "boot").unwrap();
    let spool = spools.take(&digest, SIZE).unwrap().unwrap();
    assert_eq!(spool.resumed(), CHUNK);
    assert_eq!(spool.claim(u64::MAX), Some(0..CHUNK));
    spool.discard().unwrap();
    drop(spool);
    assert_eq!(spools.usage(), 0);
    let spool = spools.take(&digest, SIZE).unwrap().unwrap();
    assert_eq!(spool.resumed(), 0);
}

#[test]
fn other_boots_and_halves_go() {
    let root = tempfile::tempdir().unwrap();
    for path in ["old/sha256-x-1", "old/sha256-x-1.chunks", "boot/half-1", "boot/other-1.chunks"] {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "1").unwrap();
    }
    let _spools = Spools::open(root.path(), "boot").unwrap();
    assert!(!root.path().join("old").exists());
    assert_eq!(fs::read_dir(root.path().join("boot")).unwrap().count(), 0);
}
