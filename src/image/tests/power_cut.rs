//! Cuts the power under a store, at many moments: a file system of its own is shut down
//! without flushing anything (`EXT4_IOC_SHUTDOWN`), and mounted again as after a reboot. What
//! had not reached the disk is lost, and the journal is replayed.

use std::{
    io::Read,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Instant,
};

use rustix::mount::{UnmountFlags, unmount};

use super::{registry::Registry, *};
use crate::image::tar::tests::Builder;

/// `_IOR('X', 125, __u32)` with `EXT4_GOING_FLAGS_NOLOGFLUSH` (linux/ext4.h).
const SHUTDOWN: &str = "import fcntl, os, struct, sys
directory = os.open(sys.argv[1], os.O_RDONLY)
print('ready', flush=True)
sys.stdin.readline()
fcntl.ioctl(directory, 0x8004587d, struct.pack('I', 2))";

/// An ext4 in a file.
pub(super) struct Disk {
    directory: TempDir,
}

impl Disk {
    pub(super) fn new() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let disk = Self { directory };
        fs::create_dir(disk.root()).unwrap();
        let file = fs::File::create(disk.file()).unwrap();
        file.set_len(96 << 20).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg(disk.file()).status();
        let is_mounted = made.is_ok_and(|status| status.success()) && disk.mount();
        let works = is_mounted && disk.switch().is_some_and(|switch| disk.cut(switch, None));
        if !works {
            eprintln!("SKIPPED: this test needs mkfs.ext4, loop devices and python3");
        }
        works.then_some(disk)
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    pub(super) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub(super) fn mount(&self) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(self.file()).arg(self.root());
        mount.status().is_ok_and(|status| status.success())
    }

    /// Waits with the hand on the switch.
    fn switch(&self) -> Option<Child> {
        let mut switch = Command::new("python3")
            .args(["-c", SHUTDOWN])
            .arg(self.root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut ready = [0; 6];
        switch.stdout.as_mut()?.read_exact(&mut ready).ok()?;
        Some(switch)
    }

    /// Shuts the file system down under whoever uses it, and takes it away.
    fn cut(&self, mut switch: Child, user: Option<Child>) -> bool {
        drop(switch.stdin.take());
        let done = switch.wait().unwrap().success();
        if let Some(mut user) = user {
            user.kill().unwrap();
            user.wait().unwrap();
        }
        unmount(self.root(), UnmountFlags::empty()).unwrap();
        done
    }

    /// What a new boot finds: it takes nothing that an earlier one has only noted.
    fn boot(&self) {
        assert!(self.mount());
        for entry in fs::read_dir(self.root().join("images/layers")).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "json") {
                fs::remove_file(path).unwrap();
            }
        }
        fs::remove_dir_all(self.root().join("images/spool")).ok();
    }

    /// The whole life of a store, in a process that can be ended.
    fn life(&self, registry: &Registry) -> Child {
        let mut child = self.child();
        // What it says when its disk goes is no news.
        child.env(REGISTRY, registry.reference("")).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Looks at what is there, in a process of its own: this one would keep files open. Gives
    /// the number of images, which are removed afterwards or not.
    fn look(&self, removes: bool) -> usize {
        let status = self.child().env(LOOK, removes.to_string()).status().unwrap();
        // One that finds an image that is not whole panics, and says on standard error why.
        let count = status.code().and_then(|code| usize::try_from(code - FOUND).ok());
        count.filter(|&count| count <= 2).expect("all images are whole")
    }

    fn child(&self) -> Command {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["--exact", "image::tests::power_cut::child", "--nocapture"])
            .env(ROOT, self.root())
            .stdout(Stdio::null());
        child
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(self.root(), UnmountFlags::DETACH);
    }
}

const ROOT: &str = "CRIQUET_TEST_POWER_ROOT";
const REGISTRY: &str = "CRIQUET_TEST_POWER_REGISTRY";
const LOOK: &str = "CRIQUET_TEST_POWER_LOOK";
/// The exit status of one who has looked, without the images.
const FOUND: i32 = 10;

/// Not a test of its own: what runs when the power goes.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(root) = std::env::var(ROOT) else { return };
    let store = Arc::new(open(Path::new(&root)));
    if let Ok(removes) = std::env::var(LOOK) {
        std::process::exit(FOUND + look(&store, removes == "true") as i32);
    }
    let registry = std::env::var(REGISTRY).unwrap();
    let names = ["a:1", "a:2"].map(|name| format!("{registry}{name}"));
    for name in &names {
        store.pull(name, None).await.unwrap();
    }
    here(|| store.remove(&names[0])).unwrap();
}

/// The number of images, all of which are whole.
fn look(store: &ImageStore, removes: bool) -> usize {
    let images = store.list();
    for image in &images {
        assert!(store.layers(&image.id).unwrap().iter().all(|layer| layer.is_dir()));
        if removes {
            here(|| store.remove(&image.id.to_string())).unwrap();
        }
    }
    let broken = here(|| store.verify()).unwrap();
    assert!(broken.is_empty(), "{broken:?}");
    images.len()
}

fn layer(name: &str) -> registry::Pushed {
    let mut builder = Builder::default();
    for index in 0..100 {
        builder.file(&format!("{name}/{index}"), &vec![index as u8; 20_000]);
    }
    registry::gzip(builder.end())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_whole_or_not_there() {
    if !is_root() {
        return;
    }
    let Some(disk) = Disk::new() else { return };
    let registry = Registry::start();
    registry.push("1", &["a", "b", "c"].map(layer));
    registry.push("2", &["c", "d"].map(layer));
    disk.boot();
    let start = Instant::now();
    let mut life = disk.life(&registry);
    assert!(life.wait().unwrap().success());
    let whole_life = start.elapsed();
    assert!(disk.cut(disk.switch().unwrap(), None));

    let mut found = [0; 3];
    for step in 0..12 {
        disk.boot();
        // Half of the cuts hit a disk without images.
        found[disk.look(step % 2 == 0)] += 1;
        let switch = disk.switch().unwrap();
        let life = disk.life(&registry);
        tokio::time::sleep(whole_life * step / 12).await;
        assert!(disk.cut(switch, Some(life)));
    }
    assert!(found[0] > 0 && found[1] + found[2] > 0, "the cuts hit nothing: {found:?}");
    disk.boot();
    let mut life = disk.life(&registry);
    assert!(life.wait().unwrap().success());
    assert_eq!(disk.look(false), 1);
}
