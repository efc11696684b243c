//! A file system that never answers, as a network share whose server is gone: FUSE without
//! anybody who serves it. It is mounted at once; every look below its root waits until it is
//! aborted.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Opcode and header sizes of the FUSE protocol (`linux/fuse.h`).
const FUSE_INIT: u32 = 26;
const IN_HEADER: usize = 40;
const OUT_HEADER: u32 = 16;

/// Mounted for as long as this lives.
pub struct Hanging {
    path: PathBuf,
    connection: Option<File>,
}

impl Hanging {
    /// Mounts one at a path, which is made.
    pub fn at(path: &Path) -> Self {
        fs::create_dir_all(path).unwrap();
        let mut connection =
            File::options().read(true).write(true).open("/dev/fuse").expect("FUSE is needed");
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
            connection.as_raw_fd()
        );
        let options = std::ffi::CString::new(options).unwrap();
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("hanging", path, "fuse.hanging", flags, Some(options.as_c_str())).unwrap();
        greet(&mut connection);
        Self { path: path.to_owned(), connection: Some(connection) }
    }

    /// Fails everything that waits, as when the share is given up.
    pub fn abort(&mut self) {
        self.connection = None;
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.abort();
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}

/// Without an answer to the first message the kernel takes it for no file system at all.
fn greet(connection: &mut File) {
    let mut request = vec![0; 1 << 17];
    let length = connection.read(&mut request).unwrap();
    let number = |at: usize| u32::from_le_bytes(request[at..at + 4].try_into().unwrap());
    assert!(length > IN_HEADER);
    assert_eq!(number(4), FUSE_INIT);
    let unique = request[8..16].to_vec();
    let readahead = number(IN_HEADER + 8);
    // major, minor, max_readahead, flags; max_background and congestion_threshold; max_write;
    // time_gran; the rest is zero.
    let mut body = Vec::new();
    for word in [7_u32, 31, readahead, 0, 12 | 10 << 16, 1 << 16, 1] {
        body.extend(word.to_le_bytes());
    }
    body.resize(64, 0);
    let mut answer = Vec::new();
    answer.extend((OUT_HEADER + body.len() as u32).to_le_bytes());
    answer.extend(0_i32.to_le_bytes());
    answer.extend(unique);
    answer.extend(body);
    connection.write_all(&answer).unwrap();
}
