//! Memory that two processes share: one writes to it, the other copies from it.

use std::{
    io,
    ops::Range,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr::{self, NonNull},
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

/// A mapping (mmap(2)) of a file in memory whose length nobody can change, so that no access
/// within it ever fails.
#[derive(Debug)]
pub struct Shared {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to this value alone, and has nothing to do with threads.
unsafe impl Send for Shared {}

impl Shared {
    /// New memory, to be copied from here, and its file for the process that writes.
    ///
    /// # Errors
    /// Those of `memfd_create(2)` and `mmap(2)`.
    pub fn create(name: &str, length: usize) -> io::Result<(Self, OwnedFd)> {
        let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, length as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let shared = Self::map(file.as_fd(), length, libc::PROT_READ)?;
        Ok((shared, file))
    }

    /// The same memory, to be written to from here.
    ///
    /// # Errors
    /// Those of `mmap(2)`; `InvalidInput` for a file of another length.
    pub fn of(file: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        if rustix::fs::fstat(file)?.st_size as u64 != length as u64 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Self::map(file, length, libc::PROT_READ | libc::PROT_WRITE)
    }

    fn map(file: BorrowedFd<'_>, length: usize, access: libc::c_int) -> io::Result<Self> {
        let fd = file.as_raw_fd();
        // SAFETY: the kernel chooses where, so that nothing else is there.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, access, libc::MAP_SHARED, fd, 0) };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr().cast::<libc::c_void>() != libc::MAP_FAILED => {
                Ok(Self { start, length })
            }
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// A part of the memory to write to. Of a mapping that was made with [`Shared::of`], and
    /// while the other process does not copy from that part.
    ///
    /// # Panics
    /// Beyond the end.
    pub fn part(&mut self, range: Range<usize>) -> &mut [u8] {
        assert!(range.start <= range.end && range.end <= self.length, "beyond the shared memory");
        // SAFETY: the range is within the mapping, which lives as long as this value; the
        // exclusive borrow is the only way to it in this process, and the other one has it
        // mapped for reading alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(range.start), range.len()) }
    }

    /// Copies what is at `offset` now, whatever becomes of it afterwards.
    ///
    /// # Panics
    /// Beyond the end.
    pub fn copy(&self, offset: usize, to: &mut [u8]) {
        let end = offset.checked_add(to.len());
        assert!(end.is_some_and(|end| end <= self.length), "beyond the shared memory");
        // SAFETY: the range is within the mapping, and `to` is memory of this process alone.
        // That the other process may write at the same time changes which bytes are copied;
        // every byte is a valid one.
        unsafe {
            ptr::copy_nonoverlapping(self.start.as_ptr().add(offset), to.as_mut_ptr(), to.len())
        };
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: nothing that was borrowed from it is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::Shared;

    #[test]
    fn what_one_side_writes_the_other_one_copies() {
        let (reader, file) = Shared::create("test", 8192).unwrap();
        let mut writer = Shared::of(file.as_fd(), 8192).unwrap();
        assert!(Shared::of(file.as_fd(), 4096).is_err());
        assert!(rustix::fs::ftruncate(&file, 0).is_err(), "it could be taken away");
        writer.part(4090..4100).copy_from_slice(b"0123456789");
        let mut copy = [0; 4];
        reader.copy(4096, &mut copy);
        assert_eq!(&copy, b"6789");
    }
}
