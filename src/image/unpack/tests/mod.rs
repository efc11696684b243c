//! Hostile and peculiar archives. All of these need root: owners, devices, overlay's marks.

mod oddities;

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::*;
use crate::image::{stack::Stack, tar::tests::Builder};

/// Whether this process may do what unpacking does; says loudly when it may not.
pub(in crate::image) fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("SKIPPED: this test needs root (chown, mknod, trusted attributes)");
    }
    is_root
}

struct Place {
    _parent: TempDir,
    root: PathBuf,
}

impl Place {
    /// A layer's root, with a file outside that no archive may reach.
    fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::create_dir(parent.path().join("outside")).unwrap();
        fs::write(parent.path().join("outside/secret"), "untouched").unwrap();
        Self { _parent: parent, root }
    }

    fn unpack(&self, archive: &[u8]) -> Result<Unpacked, Failure> {
        self.unpack_within(archive, Limits::default())
    }

    fn unpack_within(&self, archive: &[u8], limits: Limits) -> Result<Unpacked, Failure> {
        let root = fs::File::open(&self.root).unwrap();
        let archive = Recorder::new(archive, None).unwrap();
        let result = unpack(root.into(), archive, limits);
        let outside: Vec<_> =
            fs::read_dir(self.root.parent().unwrap().join("outside")).unwrap().collect();
        assert_eq!(outside.len(), 1, "something was made outside");
        let secret = self.root.parent().unwrap().join("outside/secret");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "untouched");
        assert_eq!(fs::metadata(&secret).unwrap().nlink(), 1);
        result
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn is_whiteout(&self, path: &str) -> bool {
        let metadata = fs::symlink_metadata(self.path(path)).unwrap();
        metadata.file_type().is_char_device() && metadata.rdev() == 0
    }

    fn is_opaque(&self, path: &str) -> bool {
        super::is_opaque(fs::File::open(self.path(path)).unwrap())
    }
}

fn refused(result: Result<Unpacked, Failure>) -> String {
    match result {
        Err(Failure::Refused { reason, .. }) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn everything_that_is_in_images() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut builder = Builder::default();
    builder
        .directory("./", 0o755, (0, 0))
        .directory("tmp/", 0o1777, (0, 0))
        .directory("home/", 0o2750, (7, 8))
        .raw(b'0', b"home/su", b"", 0o4755, (0, 5), b"program")
        .pax(&[
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.user.note", b"hello"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ])
        .raw(b'0', b"home/ping", b"", 0o755, (1000, 1000), b"ping")
        .symlink("home/link", "../../../outside/secret")
        .raw(b'1', b"home/same", b"home/su", 0o4755, (0, 5), b"")
        .device(b'3', "null", 1, 3)
        .device(b'4', "disk", 8, 1)
        .device(b'6', "pipe", 0, 0);
    let unpacked = place.unpack(&builder.end()).unwrap();
    assert!(unpacked.implied.is_empty());
    assert_eq!(unpacked.inodes, 9);
    let stat = |path: &str| fs::symlink_metadata(place.path(path)).unwrap();
    assert_eq!(stat("tmp").mode() & 0o7777, 0o1777);
    assert_eq!(
        (stat("home").mode() & 0o7777, stat("home").uid(), stat("home").gid()),
        (0o2750, 7, 8)
    );
    assert_eq!(stat("home").mtime(), 1_500_000_000);
    assert_eq!((stat("home/su").mode() & 0o7777, stat("home/su").gid()), (0o4755, 5));
    assert_eq!(stat("home/su").ino(), stat("home/same").ino());
    assert_eq!(stat("home/su").mtime(), 1_500_000_000);
    assert_eq!((stat("home/ping").uid(), stat("home/ping").gid()), (1000, 1000));
    assert_eq!(
        fs::read_link(place.path("home/link")).unwrap(),
        Path::new("../../../outside/secret")
    );
    assert_eq!(stat("null").rdev(), rustix::fs::makedev(1, 3));
    assert!(stat("disk").file_type().is_block_device() && stat("pipe").file_type().is_fifo());
    let attribute = |name: &str| {
        let mut value = [0u8; 64];
        let length = rustix::fs::getxattr(place.path("home/ping"), name, &mut value[..]);
        length.map(|length| value[..length].to_vec())
    };
    assert_eq!(attribute("security.capability").unwrap(), capability);
    assert_eq!(attribute("user.note").unwrap(), b"hello");
    assert!(attribute("trusted.overlay.opaque").is_err());
    assert!(attribute("user.overlay.opaque").is_err());
}

#[test]
fn paths_that_lead_out_are_refused() {
    if !is_root() {
        return;
    }
    for path in ["../outside/x", "a/../../outside/x", "/../outside/x", ".."] {
        let reason = refused(Place::new().unpack(&Builder::default().file(path, b"evil").end()));
        assert!(reason.contains(".."), "{reason}");
        let mut builder = Builder::default();
        builder.file("a", b"").hard_link("b", path);
        refused(Place::new().unpack(&builder.end()));
    }
}

#[test]
fn absolute_paths_and_links_stay_within() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let outside = place.root.parent().unwrap().join("outside");
    let mut builder = Builder::default();
    builder
        .file("/etc/passwd", b"mine")
        .symlink("up", "../../../../outside")
        .file("up/secret", b"evil")
        .symlink("absolute", outside.to_str().unwrap())
        .file("absolute/secret", b"evil")
        .hard_link("stolen", "etc/passwd")
        .symlink("chain", "up/./../absolute")
        .directory("chain/deep", 0o700, (0, 0));
    place.unpack(&builder.end()).unwrap();
    assert_eq!(fs::read(place.path("etc/passwd")).unwrap(), b"mine");
    assert_eq!(fs::read(place.path("outside/secret")).unwrap(), b"evil");
    let inner = place.root.join(outside.strip_prefix("/").unwrap());
    assert_eq!(fs::read(inner.join("secret")).unwrap(), b"evil");
    assert!(inner.join("deep").is_dir());
    assert!(fs::symlink_metadata(place.path("up")).unwrap().is_symlink());
}

#[test]
fn writing_through_a_link_replaces_it() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let secret = place.root.parent().unwrap().join("outside/secret");
    let secret = secret.to_str().unwrap();
    let mut builder = Builder::default();
    builder.symlink("x", secret).file("x", b"new").symlink("d", "../outside").directory(
        "d",
        0o700,
        (0, 0),
    );
    builder.symlink("y", secret).hard_link("z", "y");
    place.unpack(&builder.end()).unwrap();
    assert!(fs::symlink_metadata(place.path("x")).unwrap().is_file());
    assert!(fs::symlink_metadata(place.path("d")).unwrap().is_dir());
    // A link to a link is the link again.
    assert!(fs::symlink_metadata(place.path("z")).unwrap().is_symlink());
}

#[test]
fn links_to_nothing_are_refused() {
    if !is_root() {
        return;
    }
    for target in ["missing", "dir", "", "/", ".wh.x"] {
        let mut builder = Builder::default();
        builder.directory("dir", 0o755, (0, 0)).hard_link("b", target);
        refused(Place::new().unpack(&builder.end()));
    }
    let mut builder = Builder::default();
    builder.symlink("a", "b").symlink("b", "a").file("a/x", b"");
    assert!(refused(Place::new().unpack(&builder.end())).contains("links"));
    let mut builder = Builder::default();
    builder.file("a", b"").file("a/x", b"");
    refused(Place::new().unpack(&builder.end()));
}

#[test]
fn whiteouts_come_in_any_order() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let mut builder = Builder::default();
    builder
        .file(".wh.gone", b"")
        .file("late/a", b"1")
        .file("late/.wh..wh..opq", b"")
        .file("early/.wh..wh..opq", b"")
        .file("early/a", b"1")
        .directory("early", 0o700, (3, 4))
        // Hidden below, and new here.
        .file("kept", b"1")
        .file(".wh.kept", b"")
        .file(".wh.again", b"")
        .file("again", b"1")
        .file(".wh.remade", b"")
        .file("remade/x", b"1")
        .directory("made", 0o755, (0, 0))
        .file(".wh.made", b"")
        .file(".wh.listed", b"")
        .directory("listed", 0o755, (0, 0))
        .file(".wh..wh.plnk", b"");
    let unpacked = place.unpack(&builder.end()).unwrap();
    assert!(place.is_whiteout("gone"));
    assert_eq!(fs::read(place.path("kept")).unwrap(), b"1");
    assert_eq!(fs::read(place.path("again")).unwrap(), b"1");
    for directory in ["late", "early", "remade", "made", "listed"] {
        assert!(place.is_opaque(directory), "{directory}");
    }
    assert!(!place.is_opaque(""));
    assert_eq!(fs::metadata(place.path("early")).unwrap().uid(), 3);
    let implied: Vec<&[u8]> = unpacked.implied.iter().map(Vec::as_slice).collect();
    assert_eq!(implied, [&b""[..], b"late", b"remade"]);
    assert!(!place.path(".wh..wh.plnk").exists());
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
        refused(Place::new().unpack(&Builder::default().file(name, b"").end()));
    }
}

#[test]
fn entries_replace_entries_of_any_kind() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let mut builder = Builder::default();
    builder
        .file("a/b/c", b"1")
        .file("a", b"file now")
        .file("a", b"again")
        .symlink("l", "a")
        .device(b'3', "l", 1, 3)
        .directory("l", 0o755, (0, 0))
        .file("same", b"1")
        .hard_link("same", "same");
    let unpacked = place.unpack(&builder.end()).unwrap();
    assert_eq!(fs::read(place.path("a")).unwrap(), b"again");
    assert!(place.path("l").is_dir());
    assert_eq!(fs::read(place.path("same")).unwrap(), b"1");
    assert_eq!(unpacked.implied, [b""]);
}

#[test]
fn sparse_files_have_holes() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let mut builder = Builder::default();
    builder
        .pax(&[
            ("GNU.sparse.size", b"1073741824"),
            ("GNU.sparse.map", b"1048576,4"),
            ("GNU.sparse.name", b"big"),
        ])
        .file("x", b"data");
    let unpacked = place.unpack(&builder.end()).unwrap();
    let metadata = fs::metadata(place.path("big")).unwrap();
    assert_eq!(metadata.len(), 1 << 30);
    assert!(metadata.blocks() < 100 && unpacked.size < 100_000);
    let mut data = [0; 4];
    std::os::unix::fs::FileExt::read_exact_at(
        &fs::File::open(place.path("big")).unwrap(),
        &mut data,
        1 << 20,
    )
    .unwrap();
    assert_eq!(&data, b"data");
}

#[test]
fn bombs_meet_limits() {
    if !is_root() {
        return;
    }
    let mut many = Builder::default();
    (0..100).for_each(|index| {
        many.directory(&format!("d{index}"), 0o755, (0, 0));
    });
    let many = many.end();
    for limits in [
        Limits { entries: 99, ..Limits::default() },
        Limits { path_bytes: 200, ..Limits::default() },
    ] {
        let result = Place::new().unpack_within(&many, limits);
        assert!(matches!(result, Err(Failure::TooLarge(_))), "{result:?}");
    }
    let mut implied = Builder::default();
    (0..100).for_each(|index| {
        implied.file(&format!("d{index}/x"), b"");
    });
    let limits = Limits { implied_bytes: 200, ..Limits::default() };
    let result = Place::new().unpack_within(&implied.end(), limits);
    assert!(matches!(result, Err(Failure::TooLarge(_))), "{result:?}");
    let deep = "d/".repeat(1100) + "x";
    let long = "n".repeat(300);
    for path in [deep.as_bytes(), long.as_bytes(), &[b'a'; 5000]] {
        let mut builder = Builder::default();
        builder.pax(&[("path", path)]).file("x", b"");
        refused(Place::new().unpack(&builder.end()));
    }
    // Links that lead ever deeper.
    let mut builder = Builder::default();
    let step = "d/".repeat(700);
    builder.pax(&[("path", step.as_bytes())]).directory("x", 0o755, (0, 0));
    builder.pax(&[("linkpath", step.as_bytes())]).symlink("s", "x");
    builder.pax(&[("path", format!("s/{step}").as_bytes())]).directory("x", 0o755, (0, 0));
    refused(Place::new().unpack(&builder.end()));
}

#[test]
fn a_stack_shows_what_overlay_would() {
    if !is_root() {
        return;
    }
    let (lower, upper) = (Place::new(), Place::new());
    let mut builder = Builder::default();
    builder
        .directory("etc", 0o750, (1, 2))
        .file("etc/a", b"lower a")
        .file("etc/b", b"lower b")
        .file("opaque/a", b"hidden")
        .file("gone/a", b"hidden")
        .directory("usr/lib", 0o755, (0, 0))
        .file("usr/lib/real", b"real")
        .symlink("lib", "usr/lib")
        .symlink("escape", "../../../../../../etc/passwd")
        .symlink("absolute", "/etc/a")
        .symlink("loop", "loop")
        .device(b'6', "pipe", 0, 0);
    lower.unpack(&builder.end()).unwrap();
    let mut builder = Builder::default();
    builder
        .file("etc/a", b"upper a")
        .file("etc/.wh.b", b"")
        .file(".wh.gone", b"")
        .file("opaque/.wh..wh..opq", b"");
    let unpacked = upper.unpack(&builder.end()).unwrap();
    assert_eq!(unpacked.implied, [&b""[..], b"etc", b"opaque"]);
    let stack = Stack::open(&[upper.root.clone(), lower.root.clone()]).unwrap();
    let read = |path: &str| {
        let file = stack.file(Path::new(path)).unwrap();
        file.map(|file| std::io::read_to_string(file).unwrap())
    };
    assert_eq!(read("etc/a").as_deref(), Some("upper a"));
    assert_eq!(read("/lib/real").as_deref(), Some("real"));
    assert_eq!(read("absolute").as_deref(), Some("upper a"));
    assert_eq!(read("lib/../../etc/./a").as_deref(), Some("upper a"));
    for hidden in ["etc/b", "gone/a", "gone", "opaque/a", "missing", "escape", "etc/a/x"] {
        assert_eq!(read(hidden), None, "{hidden}");
    }
    for wrong in ["loop", "pipe", "etc", "/"] {
        assert!(stack.file(Path::new(wrong)).is_err(), "{wrong}");
    }
    let below = Stack::open(std::slice::from_ref(&lower.root)).unwrap();
    let etc = below.directory(b"etc").unwrap().unwrap();
    assert_eq!((etc.st_mode & 0o7777, etc.st_uid, etc.st_gid), (0o750, 1, 2));
    assert!(below.directory(b"lib").unwrap().is_none());
}

#[test]
fn permissions_do_not_stop_root_from_filling_directories() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let mut builder = Builder::default();
    builder.directory("locked", 0o000, (5, 5)).file("locked/x", b"1");
    place.unpack(&builder.end()).unwrap();
    let mode = fs::metadata(place.path("locked")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0);
}

#[test]
fn mutilated_archives_reach_nothing_outside() {
    if !is_root() {
        return;
    }
    let mut builder = Builder::default();
    builder
        .directory("d", 0o755, (1, 1))
        .symlink("d/up", "../../outside")
        .file("d/up/secret", b"evil")
        .pax(&[("path", b"d/long"), ("SCHILY.xattr.user.a", b"b")])
        .file("x", &[1; 1000])
        .hard_link("h", "d/long")
        .file("d/.wh.gone", b"")
        .file("d/.wh..wh..opq", b"")
        .pax(&[("GNU.sparse.size", b"4096"), ("GNU.sparse.map", b"0,4"), ("GNU.sparse.name", b"s")])
        .file("x", b"data");
    let good = builder.end();
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let mut unpacked = 0;
    for _ in 0..600 {
        let mut bytes = good.clone();
        for _ in 0..=random(4) {
            let interesting = b"\0/.0179LKxgSV\xff\x80";
            let (block, offset) = (random(good.len() / 512), random(512));
            bytes[block * 512 + offset] = interesting[random(interesting.len())];
        }
        // Right checksums, so that the mutations get further than the header.
        for block in bytes.chunks_exact_mut(512) {
            if block.starts_with(b"d") || block[257..262] == *b"ustar" {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        unpacked += usize::from(Place::new().unpack(&bytes).is_ok());
    }
    assert!(unpacked > 50, "the mutations are too wild to test anything: {unpacked}");
}
