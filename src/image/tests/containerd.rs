//! The same image, unpacked here and by containerd: file for file the same tree, as a
//! container sees it. `CRIQUET_TEST_CONTAINERD` is the directory of its programs.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Instant,
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::{
    registry::{Pushed, Registry},
    *,
};
use crate::image::tar::tests::Builder;

pub(super) struct Containerd {
    programs: PathBuf,
    pub(super) directory: TempDir,
    process: Child,
}

impl Containerd {
    pub(super) fn start() -> Option<Self> {
        let Some(programs) = std::env::var_os("CRIQUET_TEST_CONTAINERD").map(PathBuf::from) else {
            eprintln!("SKIPPED: CRIQUET_TEST_CONTAINERD does not say where containerd is");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let disabled = ["grpc.v1.cri", "internal.v1.tracing"];
        let disabled = disabled.map(|name| format!("\"io.containerd.{name}\"")).join(", ");
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [{disabled}]\n\
             [grpc]\naddress = {:?}\n[plugins.\"io.containerd.internal.v1.opt\"]\npath = {:?}\n",
            path("root"),
            path("state"),
            path("sock"),
            path("opt"),
        );
        fs::write(path("config.toml"), config).unwrap();
        let log = fs::File::create(path("log")).unwrap();
        let process = Command::new(programs.join("containerd"))
            .arg("--config")
            .arg(path("config.toml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let containerd = Self { programs, directory, process };
        let end = Instant::now() + Duration::from_secs(60);
        while !containerd.ctr(&["version"]) {
            assert!(Instant::now() < end, "containerd does not answer: {}", containerd.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(containerd)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    pub(super) fn ctr(&self, arguments: &[&str]) -> bool {
        let mut ctr = Command::new(self.programs.join("ctr"));
        ctr.arg("--address").arg(self.directory.path().join("sock")).args(arguments);
        let output = ctr.output().unwrap();
        if !output.status.success() {
            eprintln!("ctr {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        output.status.success()
    }

    /// Pulls an image and shows its tree.
    fn tree(&self, reference: &str) -> Tree {
        assert!(self.ctr(&["images", "pull", "--plain-http", reference]), "{}", self.log());
        // The place names the snapshot as well.
        let place = self.directory.path().join(Digest::of(reference.as_bytes()).hex());
        fs::create_dir(&place).unwrap();
        assert!(self.ctr(&["images", "mount", reference, place.to_str().unwrap()]));
        let tree = Tree::of(&place);
        unmount(&place, UnmountFlags::DETACH).unwrap();
        tree
    }
}

impl Containerd {
    /// Ends it; its root stays.
    pub(super) fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Later than any time in an image of these tests, and before they were written.
const RECENT: i64 = 1_790_000_000;

/// All that a file shows but its content, which is there as a digest.
#[derive(Debug, PartialEq)]
struct Node {
    mode: u32,
    owner: (u32, u32),
    device: u64,
    size: u64,
    /// Nothing for a directory that no archive gives a time.
    modified: Option<(i64, i64)>,
    links: u64,
    content: Option<Digest>,
    link: Option<PathBuf>,
    attributes: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, PartialEq)]
struct Tree(BTreeMap<PathBuf, Node>);

impl Tree {
    fn of(root: &Path) -> Self {
        let mut nodes = BTreeMap::new();
        let mut rest = vec![root.to_owned()];
        while let Some(path) = rest.pop() {
            let node = Node::of(&path);
            if path.symlink_metadata().unwrap().is_dir() {
                rest.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            nodes.insert(path.strip_prefix(root).unwrap().to_owned(), node);
        }
        Self(nodes)
    }

    /// The first path at which two trees differ.
    fn difference(&self, other: &Self) -> Option<String> {
        let paths = self.0.keys().chain(other.0.keys());
        paths.filter(|path| self.0.get(*path) != other.0.get(*path)).min().map(|path| {
            format!("{}\n{:?}\n{:?}", path.display(), self.0.get(path), other.0.get(path))
        })
    }
}

impl Node {
    fn of(path: &Path) -> Self {
        let metadata = path.symlink_metadata().unwrap();
        let is_directory = metadata.is_dir();
        let mut names = vec![0; 4096];
        let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
        let names = names[..length].split(|b| *b == 0).filter(|name| !name.is_empty());
        let value = |name: &str| {
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(length);
            value
        };
        Self {
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            device: metadata.rdev(),
            size: if is_directory { 0 } else { metadata.size() },
            modified: Some((metadata.mtime(), metadata.mtime_nsec())).filter(|(s, _)| *s < RECENT),
            links: if is_directory { 0 } else { metadata.nlink() },
            content: metadata.is_file().then(|| Digest::of(&fs::read(path).unwrap())),
            link: metadata.is_symlink().then(|| fs::read_link(path).unwrap()),
            attributes: names
                .map(|name| String::from_utf8(name.to_vec()).unwrap())
                .map(|name| (name.clone(), value(&name)))
                .collect(),
        }
    }
}

/// The image as a container of this store would see it.
fn own_tree(store: &ImageStore, id: &ImageId) -> Tree {
    let place = tempfile::tempdir().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let layers = store.layers(id).unwrap();
    let layers = layers.iter().chain([&empty.path().to_owned()]).cloned().collect::<Vec<_>>();
    let names: Vec<_> = layers.iter().map(|layer| layer.display().to_string()).collect();
    let data = std::ffi::CString::new(format!("lowerdir={}", names.join(":"))).unwrap();
    mount("overlay", place.path(), "overlay", MountFlags::RDONLY, Some(&*data)).unwrap();
    let tree = Tree::of(place.path());
    unmount(place.path(), UnmountFlags::DETACH).unwrap();
    tree
}

/// A Linux file capability, `cap_net_bind_service=ep`.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

pub(super) fn lower() -> Vec<u8> {
    let mut tar = Builder::default();
    tar.directory("./", 0o755, (0, 0)).directory("etc/", 0o750, (3, 4)).file("etc/a", b"a");
    tar.file("etc/gone", b"gone").directory("opaque/", 0o711, (0, 0)).file("opaque/old", b"old");
    tar.directory("usr/", 0o755, (0, 0)).directory("usr/bin/", 0o755, (0, 0));
    tar.raw(b'0', b"usr/bin/su", b"", 0o4755, (0, 7), b"setuid").symlink("bin", "usr/bin");
    tar.hard_link("usr/bin/sudo", "usr/bin/su").symlink("absolute", "/etc/a");
    tar.device(b'3', "null", 1, 3).device(b'4', "disk", 8, 1).device(b'6', "pipe", 0, 0);
    tar.pax(&[("SCHILY.xattr.security.capability", CAPABILITY), ("SCHILY.xattr.user.x", b"y")]);
    tar.file("usr/bin/serve", b"with a capability");
    tar.pax(&[("path", "long/".repeat(60).as_bytes()), ("mtime", b"1500000001.123456789")]);
    tar.directory("short/", 0o755, (0, 0));
    tar.pax(&[("mtime", b"1.5"), ("uid", b"3000000"), ("gid", b"3000001")]).file("times", b"t");
    tar.file("was-file", b"f").directory("was-directory/", 0o755, (0, 0));
    tar.file("was-directory/inside", b"i").directory("sticky/", 0o1777, (0, 0)).end()
}

pub(super) fn upper() -> Vec<u8> {
    let mut tar = Builder::default();
    // Its parents are those of the layer below.
    tar.file("etc/b", b"b").file("etc/.wh.gone", b"").file("opaque/new", b"new");
    tar.file("opaque/.wh..wh..opq", b"").directory("was-file/", 0o700, (1, 1));
    tar.file("was-file/inside", b"i").file("was-directory", b"now a file");
    tar.raw(b'0', b"etc/a", b"", 0o600, (5, 6), b"changed").file("usr/bin/more", b"m");
    tar.symlink("null", "/dev/null").end()
}

fn zstd(plain: Vec<u8>) -> Pushed {
    Pushed { stored: ::zstd::encode_all(&plain[..], 3).unwrap(), plain }
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_are_those_of_containerd() {
    if !is_root() {
        return;
    }
    let Some(containerd) = Containerd::start() else { return };
    let registry = Registry::start();
    let plain = |plain: Vec<u8>| Pushed { stored: plain.clone(), plain };
    registry.push("gzip", &[registry::gzip(lower()), registry::gzip(upper())]);
    registry.push("zstd", &[zstd(lower()), zstd(upper())]);
    registry.push("plain", &[plain(lower()), plain(upper())]);
    let mut references = vec!["gzip", "zstd", "plain"]
        .into_iter()
        .map(|tag| registry.reference(&format!("a:{tag}")))
        .collect::<Vec<_>>();
    // Real images, of a registry that somebody else runs.
    if let (Ok(other), Ok(images)) =
        (std::env::var("CRIQUET_TEST_REGISTRY"), std::env::var("CRIQUET_TEST_IMAGES"))
    {
        references.extend(images.split(',').map(|image| format!("{other}/{image}")));
    }
    let (_directory, store) = store();
    for reference in references {
        let id = store.pull(&reference, None).await.unwrap();
        let own = own_tree(&store, &id);
        assert!(own.0.len() > 20, "{reference}: {own:?}");
        let theirs = containerd.tree(&reference);
        if let Some(difference) = own.difference(&theirs) {
            panic!("{reference} differs at {difference}");
        }
    }
}
