//! The archive without the compression around it, in a file without a name.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use rustix::fs::{Mode, OFlags};

use crate::image::{
    Error,
    layers::io_error,
    stream::{Bounds, decompress, is_compressed},
};

/// How often the disk is looked at.
const STEP: u64 = 16 << 20;
/// This part of the disk, and so many bytes at most, stay free.
const SHARE: u64 = 20;
const FREE: u64 = 1 << 30;

/// Decompresses an archive into the directory `temporary`; one that is not compressed stays
/// as it is.
///
/// # Errors
/// An archive that is damaged, unpacks to more than any honest one, or to more than the disk
/// can spare.
pub(super) fn plain(
    file: File,
    path: &Path,
    temporary: &Path,
    bounds: &Bounds,
) -> Result<File, Error> {
    let mut start = [0; 18];
    let length = file.read_at(&mut start, 0).map_err(io_error("read", path))?;
    if !is_compressed(&start[..length]) {
        return Ok(file);
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let target = rustix::fs::open(temporary, flags, Mode::from_raw_mode(0o600))
        .map_err(|errno| io_error("make a file in", temporary)(errno.into()))?;
    let mut target = File::from(target);
    let copied = decompress(&file, bounds, |plain| copy(plain, &mut target));
    copied.map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => limit(path, "what any honest one unpacks to"),
        io::ErrorKind::StorageFull => limit(path, "what the disk of the images can spare"),
        _ => io_error("decompress", path)(error),
    })?;
    Ok(target)
}

fn limit(path: &Path, limit: &str) -> Error {
    let what = format!("archive {}, decompressed,", path.display());
    Error::Limit { what, limit: limit.to_owned() }
}

/// Leaves room for others, however much comes.
fn copy(plain: &mut dyn Read, target: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    let mut since = STEP;
    loop {
        if since >= STEP {
            since = 0;
            if !has_room(target)? {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        let length = plain.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        target.write_all(&buffer[..length])?;
        since += length as u64;
    }
}

fn has_room(target: &File) -> io::Result<bool> {
    let disk = rustix::fs::fstatvfs(target)?;
    let (free, all) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
    Ok(free > (all / SHARE).min(FREE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{image::stream::Stop, kind::Kind};

    fn bounds() -> Bounds {
        let (windows, stop) = (Default::default(), Stop::default());
        Bounds { windows, stop, always_allowed: 1 << 20, worker: None }
    }

    fn decompressed(stored: &[u8]) -> Result<Vec<u8>, Error> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("archive");
        std::fs::write(&path, stored).unwrap();
        let file = plain(File::open(&path).unwrap(), &path, directory.path(), &bounds())?;
        let mut content = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut content, 0).unwrap();
        Ok(content)
    }

    #[test]
    fn what_is_compressed_is_decompressed_within_bounds() {
        let zstd = |plain: &[u8]| zstd::encode_all(plain, 1).unwrap();
        let plain = b"content".repeat(100_000);
        assert!(decompressed(&plain).unwrap() == plain);
        assert!(decompressed(&zstd(&plain)).unwrap() == plain);
        let bomb = decompressed(&zstd(&vec![0; 30 << 20])).unwrap_err();
        assert_eq!(bomb.kind(), Kind::ResourceExhausted, "{bomb}");
        let cut = &zstd(&plain)[..30];
        assert!(decompressed(cut).unwrap_err().to_string().contains("decompress"));
        assert_eq!(decompressed(b"\xfd7zXZ\0 and so on").unwrap_err().kind(), Kind::Internal);
    }
}
