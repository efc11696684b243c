//! Entries for fuzzing what strangers write: each takes any bytes, and panics only where a
//! promise of the module is broken. `fuzz/` runs them without end, `tests/fuzz_images.rs` a
//! short while.

use std::{
    fs,
    io::{self, Read},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    Digest, Reference, hosts,
    manifest::Document,
    policy,
    recipe::{Place, Rebuilt, Recorder, check},
    stack::Stack,
    stream::{Bounds, Stop, decompress},
    unpack::{Limits, unpack},
};

/// A reference that parses is written so that it parses to itself.
pub fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(reference) = Reference::parse(text) else { return };
    let again = Reference::parse(&reference.to_string());
    assert_eq!(again.ok().as_ref(), Some(&reference), "{text:?} is not stable");
    assert!(!reference.name().contains(".."), "{text:?} leads upwards");
}

/// Manifests and indexes; the first byte chooses the media type that they come with.
pub fn manifest(data: &[u8]) {
    const DECLARED: [&str; 4] = [
        "",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
        "application/vnd.docker.distribution.manifest.v2+json",
    ];
    let Some((choice, document)) = data.split_first() else { return };
    let declared = DECLARED[usize::from(*choice) % DECLARED.len()];
    if let Ok(Document::Image(manifest)) = Document::parse(document, declared) {
        assert!(!declared.contains("index"), "an index is taken for an image");
        assert!(manifest.layers.len() < 500);
    }
}

/// `hosts.toml` files.
pub fn hosts_toml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let path = Path::new("/nonexistent/hosts.toml");
    for endpoint in hosts::parse(text, path, "registry.example:5000").into_iter().flatten() {
        assert!(matches!(endpoint.base.scheme(), "http" | "https"), "{}", endpoint.base);
    }
}

/// Signature policies.
pub fn policy(data: &[u8]) {
    policy::fuzz(data);
}

/// Compressed streams, in whole and in pieces of as many bytes as the first byte says: what comes
/// out is the same, and comes to an end.
pub fn stream(data: &[u8]) {
    let Some((piece, stored)) = data.split_first() else { return };
    let whole = decompressed(stored, usize::MAX);
    let in_pieces = decompressed(stored, usize::from(*piece) + 1);
    match (whole, in_pieces) {
        (Ok(whole), Ok(in_pieces)) => assert!(whole == in_pieces, "pieces make a difference"),
        (Err(a), Err(b)) => assert_eq!(a.kind(), b.kind(), "{a}, {b}"),
        // How much was read ahead decides when there is too much.
        (Err(error), _) | (_, Err(error)) => {
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{error}");
        }
    }
}

fn decompressed(stored: &[u8], piece: usize) -> io::Result<Vec<u8>> {
    let (windows, stop) = (Default::default(), Stop::default());
    let bounds = Bounds { windows, stop, always_allowed: 4 << 20, worker: None };
    let source = Pieces { left: stored, piece };
    decompress(source, &bounds, |plain| {
        let mut content = Vec::new();
        plain.read_to_end(&mut content).map(|_| content)
    })
}

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

/// A layer's archive as it is, unpacked beneath `directory`. Whether it could be made again.
pub fn archive(directory: &Path, data: &[u8]) -> bool {
    layer(directory, data)
}

/// An archive made from `data`, four bytes for an entry: whiteouts, links and files with few
/// names, so that they meet.
pub fn whiteouts(directory: &Path, data: &[u8]) -> bool {
    let mut archive = Vec::new();
    for entry in data.chunks_exact(4).take(64) {
        add_entry(&mut archive, entry);
    }
    archive.extend([0; 1024]);
    layer(directory, &archive)
}

const NAMES: [&str; 16] = [
    "a",
    "b",
    "a/b",
    "a/b/c",
    "b/a",
    "./a/",
    ".wh.a",
    ".wh.b",
    "a/.wh.b",
    "a/.wh..wh..opq",
    ".wh..wh..opq",
    "a/.wh..",
    "../x",
    "/b/c",
    "a/../b",
    "b/.wh..wh.plnk/1",
];
const TARGETS: [&str; 8] = ["a", "b", "a/b", "/a", "..", "../../../x", "/", "."];
const KINDS: &[u8; 8] = b"00125346";

fn add_entry(archive: &mut Vec<u8>, entry: &[u8]) {
    let kind = KINDS[usize::from(entry[0]) % KINDS.len()];
    let content = vec![entry[3]; if kind == b'0' { usize::from(entry[3]) * 7 } else { 0 }];
    let mut header = [0; 512];
    let mut put = |at: usize, text: &str| {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, NAMES[usize::from(entry[1]) % NAMES.len()]);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(157, TARGETS[usize::from(entry[2]) % TARGETS.len()]);
    put(257, "ustar\x0000");
    put(329, "0000001\0");
    put(337, "0000003\0");
    header[156] = kind;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    archive.extend(header);
    archive.extend(&content);
    archive.resize(archive.len().next_multiple_of(512), 0);
}

/// Unpacks, and holds the result against what is promised of every layer: nothing is made
/// outside, the same archive can be made again, and the layer is what its recipe says.
fn layer(directory: &Path, data: &[u8]) -> bool {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let base = directory.join(COUNT.fetch_add(1, Ordering::Relaxed).to_string());
    let root = base.join("root");
    fs::create_dir_all(&root).expect("the directory of the layer");
    let recipe = base.join("recipe");
    let outcome = fs::File::create_new(&recipe).and_then(|recipe| {
        let recorder = Recorder::new(data, Some(recipe))?;
        Ok(unpack(fs::File::open(&root)?.into(), recorder, LIMITS))
    });
    assert_eq!(fs::read_dir(&base).map(Iterator::count).ok(), Some(2), "something lies outside");
    let unpacked = outcome.expect("the recipe");
    let has_recipe = unpacked.is_ok_and(|unpacked| unpacked.recipe.is_some());
    if has_recipe {
        let place =
            Place { root: fs::File::open(&root).expect("the layer").into(), moves: Vec::new() };
        let open = || fs::File::open(&recipe).expect("the recipe");
        let mut again = Vec::new();
        let rebuilt = Rebuilt::open(open(), &place).and_then(|mut r| r.read_to_end(&mut again));
        rebuilt.expect("the archive can be made again");
        assert!(again == data, "another archive was made again");
        check(open(), &place, &Digest::of(data)).expect("the layer is what it was");
        let stack = Stack::open(&[root]).expect("the layer");
        for name in NAMES {
            // Whatever it says, it ends.
            let _ = stack.has(Path::new(name));
        }
    }
    fs::remove_dir_all(&base).expect("the layer can be removed");
    has_recipe
}

/// Small, so that bombs of few bytes meet them.
const LIMITS: Limits = Limits { entries: 10_000, path_bytes: 1 << 20, implied_bytes: 1 << 20 };
