//! The test image, made from the machine's busybox.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest, Sha256};

/// The image's name.
pub const NAME: &str = "docker.io/library/test:1";

const APPLETS: [&str; 41] = [
    "[", "cat", "chmod", "chown", "dd", "df", "echo", "env", "false", "grep", "head", "hostname",
    "httpd", "id", "ip", "kill", "ln", "ls", "mkdir", "mknod", "mount", "nc", "ps", "pwd", "rm",
    "sed", "seq", "sh", "sleep", "stat", "stty", "tail", "test", "touch", "tr", "trap", "true",
    "ulimit", "umount", "usleep", "wget",
];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
const GROUP: &str = "root:x:0:\nuser:x:1000:\nextra:x:50000:user\n";

/// Imports the image into the store of a daemon that does not run yet.
pub fn import(directory: &Path) {
    import_layer(directory, "test:1", &layer(&[]));
}

/// What an image has at the place of something that others expect there.
#[derive(Debug, Clone, Copy)]
pub enum Instead {
    /// A symbolic link.
    Link(&'static str),
    /// An empty directory.
    Directory,
    /// An empty file.
    File,
    /// Nothing at all.
    Nothing,
}

/// Imports a second image, `name:1`, which differs from the first at some paths.
pub fn import_other(directory: &Path, name: &str, differences: &[(&str, Instead)]) {
    import_layer(directory, &format!("{name}:1"), &layer(differences));
}

/// Imports an image, `name:1`, with more in its layer and in its configuration.
pub fn import_special(
    directory: &Path,
    name: &str,
    add: impl FnOnce(&mut Tar),
    config: serde_json::Value,
) {
    let mut tar = tar(&[]);
    add(&mut tar);
    let layer = tar.finish();
    let mut whole: serde_json::Value = serde_json::from_str(&config_of(&layer)).unwrap();
    let process = whole["config"].as_object_mut().unwrap();
    process.extend(config.as_object().unwrap().clone());
    import_archive(directory, &archive_with(&format!("{name}:1"), &layer, &whole.to_string()));
}

fn import_layer(directory: &Path, name: &str, layer: &[u8]) {
    import_archive(directory, &archive_of(name, layer));
}

fn import_archive(directory: &Path, content: &[u8]) {
    let archive = directory.join("image.tar");
    fs::write(&archive, content).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_criquet"))
        .args(["image", "import"])
        .arg(&archive)
        .arg("--config")
        .arg(directory.join("config.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Statically linked: the image has no libraries.
fn busybox() -> Vec<u8> {
    let path =
        std::env::var_os("CRIQUET_TEST_BUSYBOX").map_or("/bin/busybox".into(), PathBuf::from);
    fs::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; install busybox-static or set CRIQUET_TEST_BUSYBOX", path.display())
    })
}

/// The archive of the image's one layer.
pub fn layer(differences: &[(&str, Instead)]) -> Vec<u8> {
    tar(differences).finish()
}

fn tar(differences: &[(&str, Instead)]) -> Tar {
    let mut tar = Tar::default();
    for directory in ["bin/", "etc/", "home/", "home/user/", "proc/", "root/", "sys/", "tmp/"] {
        if differences.iter().any(|(path, _)| *path == directory.trim_end_matches('/')) {
            continue;
        }
        tar.add(directory, b'5', if directory == "tmp/" { 0o1777 } else { 0o755 }, &[], "");
    }
    tar.add("bin/busybox", b'0', 0o755, &busybox(), "");
    for applet in APPLETS {
        tar.add(&format!("bin/{applet}"), b'2', 0o777, &[], "busybox");
    }
    tar.add("etc/passwd", b'0', 0o644, PASSWD.as_bytes(), "");
    tar.add("etc/group", b'0', 0o644, GROUP.as_bytes(), "");
    tar.add("etc/secret", b'0', 0o600, b"secret\n", "");
    tar.add("bin/not-executable", b'0', 0o644, b"text\n", "");
    tar.add("bin/no-format", b'0', 0o755, b"text\n", "");
    tar.add("bin/su-id", b'0', 0o4755, &busybox(), "");
    for (path, instead) in differences {
        match instead {
            Instead::Link(target) => tar.add(path, b'2', 0o777, &[], target),
            Instead::Directory => tar.add(&format!("{path}/"), b'5', 0o755, &[], ""),
            Instead::File => tar.add(path, b'0', 0o644, &[], ""),
            Instead::Nothing => {}
        }
    }
    tar
}

/// An archive as `docker save` writes it.
fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The configuration of an image with one layer.
fn config_of(layer: &[u8]) -> String {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Env": ["PATH=/bin", "FROM_IMAGE=yes"],
            "Cmd": ["sleep", "1000"],
            "WorkingDir": "/home",
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex(layer))] },
    })
    .to_string()
}

/// Writes an image of its own as the files of a repository, by the paths of the distribution
/// API: `manifests/1` and `blobs/DIGEST`.
pub fn lay_out(repository: &Path) {
    let layer = layer(&[("etc/secret", Instead::Directory)]);
    let config = config_of(&layer);
    let docker = "application/vnd.docker";
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": format!("{docker}.distribution.manifest.v2+json"),
        "config": {
            "mediaType": format!("{docker}.container.image.v1+json"),
            "digest": format!("sha256:{}", hex(config.as_bytes())),
            "size": config.len(),
        },
        "layers": [{
            "mediaType": format!("{docker}.image.rootfs.diff.tar"),
            "digest": format!("sha256:{}", hex(&layer)),
            "size": layer.len(),
        }],
    })
    .to_string();
    for directory in ["manifests", "blobs"] {
        fs::create_dir_all(repository.join(directory)).unwrap();
    }
    let digest = |bytes: &[u8]| format!("sha256:{}", hex(bytes));
    let manifests = repository.join("manifests");
    fs::write(manifests.join("1"), &manifest).unwrap();
    fs::write(manifests.join(digest(manifest.as_bytes())), &manifest).unwrap();
    for blob in [config.as_bytes(), &layer] {
        fs::write(repository.join("blobs").join(digest(blob)), blob).unwrap();
    }
}

/// An archive of the image, for a daemon that is not a test's own.
pub fn archive() -> Vec<u8> {
    archive_of("test:1", &layer(&[]))
}

fn archive_of(name: &str, layer: &[u8]) -> Vec<u8> {
    archive_with(name, layer, &config_of(layer))
}

fn archive_with(name: &str, layer: &[u8], config: &str) -> Vec<u8> {
    let config_name = format!("{}.json", hex(config.as_bytes()));
    let manifest = serde_json::json!([
        { "Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"] }
    ])
    .to_string();
    let mut tar = Tar::default();
    tar.add("manifest.json", b'0', 0o644, manifest.as_bytes(), "");
    tar.add(&config_name, b'0', 0o644, config.as_bytes(), "");
    tar.add("layer.tar", b'0', 0o644, layer, "");
    tar.finish()
}

/// A writer of ustar archives.
#[derive(Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    /// An entry that belongs to root.
    pub fn add(&mut self, name: &str, kind: u8, mode: u32, content: &[u8], link: &str) {
        self.add_owned(name, kind, mode, content, link, 0);
    }

    /// An entry that belongs to a user and the group of the same number.
    pub fn add_owned(
        &mut self,
        name: &str,
        kind: u8,
        mode: u32,
        content: &[u8],
        link: &str,
        owner: u32,
    ) {
        let mut header = [0_u8; 512];
        let mut put =
            |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, &format!("{mode:07o}"));
        put(108, &format!("{owner:07o}"));
        put(116, &format!("{owner:07o}"));
        put(124, &format!("{:011o}", content.len()));
        put(136, "00000000000");
        put(148, "        ");
        put(157, link);
        put(257, "ustar\x0000");
        header[156] = kind;
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0.write_all(&header).unwrap();
        self.0.write_all(content).unwrap();
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    /// The archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// Writes the archive for somebody else to import.
pub fn write_archive(path: &Path) {
    File::create(path).unwrap().write_all(&archive_of("test:1", &layer(&[]))).unwrap();
}

/// Writes the archive of an image whose one layer is compressed and has a file of so many bytes.
pub fn write_large_archive(path: &Path, size: usize) {
    let mut tar = Tar::default();
    tar.add("large", b'0', 0o644, &vec![0; size], "");
    let layer = tar.finish();
    let config = config_of(&layer);
    let mut stored = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    stored.write_all(&layer).unwrap();
    let stored = stored.finish().unwrap();
    File::create(path).unwrap().write_all(&archive_with("large:1", &stored, &config)).unwrap();
}
