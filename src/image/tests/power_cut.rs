//! Cuts the power under a store, at many moments: a file system of its own is shut down
//! without flushing anything (`EXT4_IOC_SHUTDOWN`), and mounted again as after a reboot. What
//! had not reached the disk is lost, and the journal is replayed.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Instant,
};

use rustix::mount::{UnmountFlags, unmount};

use super::{registry::Registry, *};
use crate::image::tar::tests::Builder;

/// `_IOR('X', 125, __u32)` with `EXT4_GOING_FLAGS_NOLOGFLUSH` (linux/ext4.h).
/// It is started beforehand and waits for the end of its input: the start of a program takes
/// longer than the whole life of a store.
const SHUTDOWN: &str = "import fcntl, os, struct, sys
disk = os.open(sys.argv[1], os.O_RDONLY)
print('ready', flush=True)
sys.stdin.read()
fcntl.ioctl(disk, 0x8004587d, struct.pack('I', 2))";

/// An ext4 in a file.
struct Disk {
    directory: TempDir,
}

impl Disk {
    fn new() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let disk = Self { directory };
        fs::create_dir(disk.root()).unwrap();
        let file = fs::File::create(disk.file()).unwrap();
        file.set_len(96 << 20).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg(disk.file()).status();
        let works = made.is_ok_and(|status| status.success())
            && disk.mount()
            && disk.cut(disk.switch(), None);
        if !works {
            eprintln!("SKIPPED: this test needs mkfs.ext4, loop devices and python3");
        }
        works.then_some(disk)
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn mount(&self) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(self.file()).arg(self.root());
        mount.status().is_ok_and(|status| status.success())
    }

    /// What will shut the file system down.
    fn switch(&self) -> Option<Child> {
        let mut switch = Command::new("python3");
        switch.args(["-c", SHUTDOWN]).arg(self.root()).stdin(Stdio::piped());
        let mut switch = switch.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let mut line = String::new();
        BufReader::new(switch.stdout.take()?).read_line(&mut line).ok()?;
        (line == "ready\n").then_some(switch)
    }

    /// Shuts the file system down under whoever uses it, and takes it away.
    fn cut(&self, switch: Option<Child>, user: Option<Child>) -> bool {
        let done = switch.is_some_and(|mut switch| {
            drop(switch.stdin.take());
            switch.wait().is_ok_and(|status| status.success())
        });
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
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "image::tests::power_cut::child"])
            .env(ROOT, self.root())
            .env(REGISTRY, registry.reference(""))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(self.root(), UnmountFlags::DETACH);
    }
}

const ROOT: &str = "CRIQUET_TEST_POWER_ROOT";
const REGISTRY: &str = "CRIQUET_TEST_POWER_REGISTRY";

/// Not a test of its own: what runs when the power goes.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let (Ok(root), Ok(registry)) = (std::env::var(ROOT), std::env::var(REGISTRY)) else { return };
    let store = Arc::new(open(Path::new(&root)));
    let names = ["a:1", "a:2"].map(|name| format!("{registry}{name}"));
    for name in &names {
        store.pull(name, None).await.unwrap();
    }
    store.remove(&names[0]).unwrap();
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
    assert!(disk.cut(disk.switch(), None));

    let mut found = [0; 3];
    for step in 0..12 {
        disk.boot();
        {
            let store = open(&disk.root());
            let images = store.list();
            found[images.len()] += 1;
            for image in images {
                assert!(store.layers(&image.id).unwrap().iter().all(|layer| layer.is_dir()));
                // Half of the cuts hit a disk without images.
                if step % 2 == 0 {
                    store.remove(&image.id.to_string()).unwrap();
                }
            }
            let broken = store.verify().unwrap();
            assert!(broken.is_empty(), "step {step}: {broken:?}");
        }
        let switch = disk.switch();
        let life = disk.life(&registry);
        tokio::time::sleep(whole_life * step / 12).await;
        assert!(disk.cut(switch, Some(life)));
    }
    assert!(found[0] > 0 && found[1] + found[2] > 0, "the cuts hit nothing: {found:?}");
    disk.boot();
    let mut life = disk.life(&registry);
    assert!(life.wait().unwrap().success());
    let store = open(&disk.root());
    assert_eq!(store.list().len(), 1);
    assert!(store.verify().unwrap().is_empty());
}
