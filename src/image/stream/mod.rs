//! A layer's way from compressed bytes to files in one pass. One thread hashes and
//! decompresses, the other hashes what came out and unpacks it; a few buffers travel
//! between them, so that memory stays the same whatever the layer's size.

mod decode;
mod file;

use std::{
    fs::File,
    io::{self, BufRead, Read},
    os::fd::OwnedFd,
    sync::mpsc::{Receiver, Sender, channel, sync_channel},
    thread,
};

use decode::{RATIO, decode};
pub(super) use file::write_file;

use super::{
    Digest, Error,
    digest::Hasher,
    recipe::Recorder,
    unpack::{self, Failure, Limits, Unpacked},
};
use crate::kind::Kind;

const BUFFERS: usize = 4;
const ALWAYS_ALLOWED: u64 = 256 << 20;

/// What a layer's stream must turn out to be.
pub(super) struct Expected {
    /// The digest of the stream itself, where one was promised.
    pub(super) compressed: Option<Digest>,
    pub(super) diff_id: Digest,
}

/// Where a layer goes.
pub(super) struct Target {
    /// Its directory, which is empty.
    pub(super) root: OwnedFd,
    /// An empty file for its recipe.
    pub(super) recipe: Option<File>,
}

/// Unpacks a layer's stream and verifies both of its digests. On
/// failure the directory's content is of no use.
pub(super) fn unpack_layer(
    source: impl Read + Send,
    target: Target,
    expected: &Expected,
) -> Result<Unpacked, Error> {
    unpack_bounded(source, target, expected, ALWAYS_ALLOWED)
}

fn unpack_bounded(
    source: impl Read + Send,
    target: Target,
    expected: &Expected,
    always_allowed: u64,
) -> Result<Unpacked, Error> {
    let layer = expected.diff_id;
    let hasher = expected.compressed.as_ref().map(Hasher::like).unwrap_or_default();
    let (full, filled) = sync_channel(BUFFERS);
    let (recycled, empty) = channel();
    let (unpacked, diff_id, decoded) = thread::scope(|scope| {
        let decoder = thread::Builder::new()
            .name("decompress".to_owned())
            .spawn_scoped(scope, move || decode(source, hasher, &full, &empty, always_allowed));
        let hasher = Hasher::like(&layer);
        let mut plain = Plain { filled, recycled, buffer: Vec::new(), used: 0, hasher };
        let unpacked = Recorder::new(&mut plain, target.recipe)
            .map_err(unpack::no_recipe)
            .and_then(|archive| unpack::unpack(target.root, archive, Limits::default()));
        let goes_on =
            matches!(&unpacked, Ok(_) | Err(Failure::Malformed(_) | Failure::Refused { .. }));
        // Whatever the archive says, a wrong digest is the more important news.
        if goes_on {
            plain.drain();
        }
        let diff_id = plain.finish();
        let decoded = decoder.map(|thread| thread.join());
        (unpacked, diff_id, decoded)
    });
    let spawn_failed =
        |source| Error::Io { operation: "start a thread for", path: "layer".into(), source };
    let decoded = decoded.map_err(spawn_failed)?.map_err(|_| Error::Task)?;
    let corrupt = |expected, found| {
        Err(Error::Corrupt { what: format!("layer {layer}"), expected, found: Box::new(found) })
    };
    match (decoded, unpacked) {
        // The reader stopped because unpacking had failed already.
        (Err(error), Err(failure)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(explain(failure, layer))
        }
        (Err(error), _) => Err(damaged(error, layer)),
        (Ok(found), unpacked) => {
            if let Some(compressed) = expected.compressed
                && found != compressed
            {
                return corrupt(compressed, found);
            }
            match unpacked {
                Err(
                    failure @ (Failure::TooLarge(_) | Failure::Write { .. } | Failure::Read(_)),
                ) => Err(explain(failure, layer)),
                _ if diff_id != layer => corrupt(layer, diff_id),
                unpacked => unpacked.map_err(|failure| explain(failure, layer)),
            }
        }
    }
}

fn damaged(error: io::Error, layer: Digest) -> Error {
    if error.kind() == io::ErrorKind::FileTooLarge {
        return Error::Limit {
            what: format!("layer {layer}, unpacked,"),
            limit: format!("{RATIO} times its compressed size"),
        };
    }
    Error::Damaged { layer, reason: error.to_string() }
}

pub(super) fn explain(failure: Failure, layer: Digest) -> Error {
    let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    match failure {
        Failure::Malformed(reason) => Error::Damaged { layer, reason },
        Failure::Read(error) => Error::Damaged { layer, reason: error.to_string() },
        Failure::Refused { path, reason } => Error::Layer { layer, path: text(&path), reason },
        Failure::TooLarge(what) => Error::Limit {
            what: format!("layer {layer}: {what}"),
            limit: "what an image may have".to_owned(),
        },
        Failure::Write { path, source, .. } if Kind::of_io(&source) == Kind::ResourceExhausted => {
            Error::Full { layer, path: text(&path), source }
        }
        Failure::Write { operation, path, source } => {
            Error::Io { operation, path: format!("layer {layer}: {}", text(&path)).into(), source }
        }
    }
}

/// The decompressed stream, hashed as its buffers arrive.
struct Plain {
    filled: Receiver<Vec<u8>>,
    recycled: Sender<Vec<u8>>,
    buffer: Vec<u8>,
    used: usize,
    hasher: Hasher,
}

impl Plain {
    fn drain(&mut self) {
        while let Ok(buffer) = self.filled.recv() {
            self.hasher.update(&buffer);
            self.recycled.send(buffer).ok();
        }
    }

    fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

impl Read for Plain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let length = piece.len().min(buffer.len());
        buffer[..length].copy_from_slice(&piece[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Plain {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.buffer.len()
            && let Ok(next) = self.filled.recv()
        {
            self.hasher.update(&next);
            let old = std::mem::replace(&mut self.buffer, next);
            self.used = 0;
            if !old.is_empty() {
                self.recycled.send(old).ok();
            }
        }
        Ok(&self.buffer[self.used..])
    }

    fn consume(&mut self, amount: usize) {
        self.used += amount;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{tar::tests::Builder, unpack::tests::is_root};

    fn run(stored: &[u8], plain: &[u8]) -> Result<Unpacked, Error> {
        let directory = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(directory.path()).unwrap();
        let expected =
            Expected { compressed: Some(Digest::of(stored)), diff_id: Digest::of(plain) };
        let target = Target { root: root.into(), recipe: None };
        unpack_bounded(stored, target, &expected, 1 << 20)
    }

    #[test]
    fn bombs_and_damage_have_their_kinds() {
        if !is_root() {
            return;
        }
        let good = Builder::default().file("x", &vec![b'a'; 700_000]).end();
        let zstd = |plain: &[u8]| zstd::encode_all(plain, 1).unwrap();
        run(&good, &good).unwrap();
        run(&zstd(&good), &good).unwrap();
        let mut trailing = zstd(&good);
        trailing.extend(b"whatever follows");
        run(&trailing, &good).unwrap();
        // An archive may be followed by anything: the diff id covers it.
        let longer = [&good[..], &[1; 3000]].concat();
        run(&zstd(&longer), &longer).unwrap();

        let bomb = Builder::default().file("zeros", &vec![0; 30 << 20]).end();
        let broken = &zstd(&good)[..50];
        let xz = b"\xfd7zXZ\0 and so on";
        for (stored, plain, kind) in [
            (&zstd(&bomb)[..], &bomb[..], Kind::ResourceExhausted),
            (broken, &good[..], Kind::DataLoss),
            (&xz[..], &xz[..], Kind::DataLoss),
            (&good[..900], &good[..900], Kind::DataLoss),
            (b"no archive", b"no archive", Kind::DataLoss),
            (&good, &longer, Kind::DataLoss),
        ] {
            let error = run(stored, plain).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
        }
    }
}
