//! Files of cgroups that are read again and again.

use std::{
    fs::File,
    io,
    mem::MaybeUninit,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The longest file that is read: `memory.stat` has some two thousand bytes.
pub(super) const MAX: usize = 8192;

/// Descriptors that may be kept open for all cgroups together.
#[derive(Debug, Clone)]
pub struct Budget(Arc<AtomicUsize>);

impl Budget {
    /// So many.
    pub fn new(descriptors: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(descriptors)))
    }

    fn take(&self) -> bool {
        let less = |left: usize| left.checked_sub(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    fn give_back(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One file. It stays open where the budget allows; a file of a cgroup is made anew by the
/// kernel for every read from its beginning. One that a kernel does not have is not looked for
/// again: cgroups are made with all their files.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    budget: Budget,
    // Held for one read.
    kept: Mutex<Kept>,
}

#[derive(Debug)]
enum Kept {
    Nothing,
    Open(File),
    Absent,
}

impl Source {
    pub(super) fn new(path: PathBuf, budget: &Budget) -> Self {
        Self { path, budget: budget.clone(), kept: Mutex::new(Kept::Nothing) }
    }

    /// What `parse` makes of what is in it now; nothing where it is not there.
    pub(super) fn read<T>(&self, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = [MaybeUninit::uninit(); MAX];
        match &*kept {
            Kept::Nothing => {}
            Kept::Open(file) => return parse(content(file, &mut buffer)?),
            Kept::Absent => return None,
        }
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                *kept = Kept::Absent;
                return None;
            }
            file => file.ok()?,
        };
        let text = content(&file, &mut buffer)?;
        if self.budget.take() {
            *kept = Kept::Open(file);
        }
        parse(text)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let kept = self.kept.get_mut().unwrap_or_else(PoisonError::into_inner);
        if matches!(kept, Kept::Open(_)) {
            self.budget.give_back();
        }
    }
}

/// The whole of it: the kernel makes it anew for every read from its beginning.
fn content<'a>(file: &File, buffer: &'a mut [MaybeUninit<u8>; MAX]) -> Option<&'a str> {
    let (bytes, _) = rustix::io::pread(file, buffer.as_mut_slice(), 0).ok()?;
    str::from_utf8(bytes).ok()
}
