//! A layer's way from compressed bytes to files in one pass. One thread hashes what comes, a
//! worker without rights decompresses it, another thread hashes what came out and unpacks it;
//! a few buffers travel between them, so that memory stays the same whatever the layer's size.

mod decode;
mod file;
mod format;
mod input;
mod pipe;
mod program;
#[cfg(test)]
mod tests;
mod window;
mod worker;

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
    thread,
};

pub(super) use decode::Bounds;
use decode::{RATIO, WindowTooLarge, decode};
pub(super) use file::write_file;
use format::Format;
use pipe::{Plain, pipe};
pub(super) use program::Program;
pub(super) use window::{Stop, StopOnDrop, Windows};
use worker::Worker;
pub use worker::main as worker_main;

use super::{
    Digest, Error,
    digest::{Hasher, Hashing},
    recipe::Recorder,
    unpack::{self, Failure, Limits, Unpacked},
};
use crate::kind::Kind;

/// A layer may unpack to this much whatever its compressed size.
pub(super) const ALWAYS_ALLOWED: u64 = 256 << 20;

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
    bounds: &Bounds,
) -> Result<Unpacked, Error> {
    let layer = expected.diff_id;
    let hasher = expected.compressed.as_ref().map(Hasher::like).unwrap_or_default();
    let flow = flow(source, hasher, Hasher::like(&layer), bounds, |plain| {
        let unpacked = Recorder::new(&mut *plain, target.recipe)
            .map_err(unpack::no_recipe)
            .and_then(|archive| unpack::unpack(target.root, archive, Limits::default()));
        let goes_on =
            matches!(&unpacked, Ok(_) | Err(Failure::Malformed(_) | Failure::Refused { .. }));
        // Whatever the archive says, a wrong digest is the more important news.
        if goes_on {
            plain.drain();
        }
        unpacked
    });
    let started =
        |source| Error::Io { operation: "start what decompresses", path: "layer".into(), source };
    let Flow { taken: unpacked, plain: diff_id, decoded } = flow.map_err(started)?;
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

/// Whether a stream that begins like this is compressed, be it in a way that is not supported.
pub(super) fn is_compressed(start: &[u8]) -> bool {
    !matches!(Format::of(start), Format::Plain | Format::End)
}

/// Hands what a compressed stream holds to `take`.
///
/// # Errors
/// That of `take` before that of the stream, which then may have been cut short by it.
pub(super) fn decompress<T>(
    source: impl Read + Send,
    bounds: &Bounds,
    take: impl FnOnce(&mut dyn Read) -> io::Result<T>,
) -> io::Result<T> {
    let hasher = Hasher::default();
    let flow = flow(source, hasher, Hasher::default(), bounds, |plain| take(plain))?;
    let taken = flow.taken?;
    flow.decoded.map(|_| taken)
}

/// Lets a worker, which is the program at `path`, decompress a few bytes.
///
/// # Errors
/// When it cannot be started, or makes something else of them.
pub fn try_worker(path: &Path) -> io::Result<()> {
    /// "works", by gzip(1).
    const COMPRESSED: &[u8] = &[
        0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0x2b, 0xcf, 0x2f, 0xca, 0x2e,
        0x06, 0x00, 0x43, 0x02, 0xe5, 0xf6, 0x05, 0x00, 0x00, 0x00,
    ];
    let bounds = Bounds {
        windows: Arc::default(),
        stop: Stop::default(),
        always_allowed: ALWAYS_ALLOWED,
        worker: Some(Program::at(path)),
    };
    match decompress(COMPRESSED, &bounds, |plain| io::read_to_string(plain))?.as_str() {
        "works" => Ok(()),
        other => Err(io::Error::other(format!("it made {other:?} of \"works\""))),
    }
}

/// What became of a compressed stream.
struct Flow<T> {
    /// What was made of its content.
    taken: T,
    /// The digest of its content.
    plain: Digest,
    /// The digest of itself, or what is wrong with it. `BrokenPipe` where not all of its content
    /// was taken.
    decoded: io::Result<Digest>,
}

/// Brings a compressed stream to who takes its content.
fn flow<T>(
    source: impl Read + Send,
    hasher: Hasher,
    plain_hasher: Hasher,
    bounds: &Bounds,
    take: impl FnOnce(&mut Plain) -> T,
) -> io::Result<Flow<T>> {
    let thread = || thread::Builder::new().name("decompress".to_owned());
    let failed = |_| Err(io::Error::other("its thread panicked"));
    let Some(program) = &bounds.worker else {
        let (mut sink, mut plain) = pipe(plain_hasher, bounds);
        return thread::scope(|scope| {
            let decode = move || decode(Hashing::new(source, hasher), &mut sink, bounds);
            let decoder = thread().spawn_scoped(scope, decode)?;
            let taken = take(&mut plain);
            let (plain, _) = plain.finish();
            let decoded = decoder.join().unwrap_or_else(failed).map(Hashing::finish);
            Ok(Flow { taken, plain, decoded })
        });
    };
    let (worker, feed) = Worker::start(program, bounds)?;
    thread::scope(|scope| {
        let feeder = thread().spawn_scoped(scope, move || feed.all(source, hasher))?;
        let mut plain = Plain::of(worker, plain_hasher);
        let taken = take(&mut plain);
        let (plain, made) = plain.finish();
        let fed = feeder.join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked")));
        let decoded = match (fed, made) {
            (Err(error), _) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            (_, Err(error)) => Err(error),
            (Ok(digest), Ok(())) => Ok(digest),
            (Err(_), Ok(())) => Err(io::Error::other("not all of it was read")),
        };
        Ok(Flow { taken, plain, decoded })
    })
}

fn damaged(error: io::Error, layer: Digest) -> Error {
    if error.kind() == io::ErrorKind::FileTooLarge {
        return Error::Limit {
            what: format!("layer {layer}, unpacked,"),
            limit: format!("{RATIO} times its compressed size"),
        };
    }
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<WindowTooLarge>());
    if let Some(WindowTooLarge(size)) = inner {
        return Error::Limit {
            what: format!("the memory to decompress layer {layer}, {} MiB,", size >> 20),
            limit: format!("{} MiB, so push it with a smaller zstd window", window::LARGEST >> 20),
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
