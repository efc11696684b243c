use std::{fs, io::Read, path::PathBuf};

use tempfile::TempDir;

use super::*;
use crate::image::{
    Digest,
    tar::tests::Builder,
    unpack::{Limits, Unpacked, tests::is_root, unpack},
};

struct Layer {
    directory: TempDir,
    archive: Vec<u8>,
    unpacked: Unpacked,
}

impl Layer {
    fn new(archive: Vec<u8>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        let recipe = fs::File::create_new(directory.path().join("recipe")).unwrap();
        let root = fs::File::open(directory.path().join("root")).unwrap();
        let recorder = Recorder::new(&archive[..], Some(recipe)).unwrap();
        let unpacked = unpack(root.into(), recorder, Limits::default()).unwrap();
        Self { directory, archive, unpacked }
    }

    fn recipe(&self) -> fs::File {
        fs::File::open(self.directory.path().join("recipe")).unwrap()
    }

    fn place(&self) -> Place {
        let root = fs::File::open(self.directory.path().join("root")).unwrap();
        Place { root: root.into(), moves: Vec::new() }
    }

    fn file(&self, path: &str) -> PathBuf {
        self.directory.path().join("root").join(path)
    }

    fn broken(&self) -> (bool, bool) {
        let digest = Digest::of(&self.archive);
        let is_broken = |result| match result {
            Ok(()) => false,
            Err(Broken::Layer(_)) => true,
            Err(Broken::Io(error)) => panic!("{error}"),
        };
        let place = self.place();
        (
            is_broken(check_sizes(self.recipe(), &place)),
            is_broken(check(self.recipe(), &place, &digest)),
        )
    }
}

fn sample() -> Vec<u8> {
    let mut builder = Builder::default();
    builder.directory("etc", 0o755, (0, 0)).file("etc/a", &[1; 100_000]).file("etc/b", b"b");
    builder.symlink("link", "etc").file("link/through", b"behind a link");
    builder.hard_link("etc/c", "etc/a").file("etc/.wh.gone", b"").file("empty", b"");
    let mut archive = builder.end();
    archive.extend([7; 5000]);
    archive
}

#[test]
fn the_same_archive_comes_out() {
    if !is_root() {
        return;
    }
    let layer = Layer::new(sample());
    assert!(layer.unpacked.recipe.is_some_and(|size| size < 2000), "{:?}", layer.unpacked);
    let place = layer.place();
    let mut archive = Vec::new();
    Rebuilt::open(layer.recipe(), &place).unwrap().read_to_end(&mut archive).unwrap();
    assert!(archive == layer.archive);
    assert_eq!(layer.broken(), (false, false));
}

#[test]
fn a_file_that_was_moved_is_found() {
    if !is_root() {
        return;
    }
    let layer = Layer::new(Builder::default().file("bin/sub/a", b"text").end());
    fs::create_dir(layer.file("usr")).unwrap();
    fs::rename(layer.file("bin"), layer.file("usr/bin")).unwrap();
    let moves = vec![(b"bin".to_vec(), b"usr/bin".to_vec())];
    let place = Place { moves, ..layer.place() };
    check(layer.recipe(), &place, &Digest::of(&layer.archive)).unwrap();
    assert_eq!(layer.broken(), (true, true));
}

#[test]
fn what_the_disk_did_to_a_layer_is_found() {
    if !is_root() {
        return;
    }
    type Damage = fn(&Layer);
    let damages: [(&str, Damage, bool); 7] = [
        ("cut to nothing", |l| fs::write(l.file("etc/a"), b"").unwrap(), true),
        ("gone", |l| fs::remove_file(l.file("etc/b")).unwrap(), true),
        (
            "another kind",
            |l| {
                fs::remove_file(l.file("etc/b")).unwrap();
                fs::create_dir(l.file("etc/b")).unwrap();
            },
            true,
        ),
        ("one byte", |l| fs::write(l.file("etc/b"), b"B").unwrap(), false),
        ("link gone", |l| fs::remove_file(l.file("etc/c")).unwrap(), false),
        ("empty file gone", |l| fs::remove_file(l.file("empty")).unwrap(), true),
        (
            "setuid",
            |l| {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(l.file("etc/b"), fs::Permissions::from_mode(0o4755)).unwrap();
            },
            false,
        ),
    ];
    for (what, damage, shows_in_sizes) in damages {
        let layer = Layer::new(sample());
        damage(&layer);
        assert_eq!(layer.broken(), (shows_in_sizes, true), "{what}");
    }
}

#[test]
fn what_came_twice_has_no_recipe() {
    if !is_root() {
        return;
    }
    let layer = Layer::new(Builder::default().file("a", b"first").file("a", b"second").end());
    assert_eq!(layer.unpacked.recipe, None);
    // A mark that gives way to a file has no content to lose.
    let layer = Layer::new(Builder::default().file(".wh.a", b"").file("a", b"second").end());
    assert!(layer.unpacked.recipe.is_some());
}

#[test]
fn a_damaged_recipe_is_an_error() {
    if !is_root() {
        return;
    }
    let layer = Layer::new(sample());
    let path = layer.directory.path().join("recipe");
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let place = layer.place();
        let result = check(layer.recipe(), &place, &Digest::of(&layer.archive));
        assert!(result.is_err(), "{length} bytes of {}", whole.len());
    }
}
