//! Files of cgroups that are read again and again.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The longest file that is read: `memory.stat` has some two thousand bytes.
const MAX: usize = 8192;

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

    /// What is in it now; nothing where it is not there.
    pub(super) fn read(&self) -> Option<String> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Kept::Nothing => {}
            Kept::Open(file) => return content(file),
            Kept::Absent => return None,
        }
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                *kept = Kept::Absent;
                return None;
            }
            file => file.ok()?,
        };
        let text = content(&file);
        if text.is_some() && self.budget.take() {
            *kept = Kept::Open(file);
        }
        text
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

fn content(file: &File) -> Option<String> {
    let mut bytes = [0; MAX];
    let length = file.read_at(&mut bytes, 0).ok()?;
    String::from_utf8(bytes[..length].to_vec()).ok()
}
