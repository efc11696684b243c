//! Where directories go to be taken apart without anybody waiting: out of sight in one
//! rename, and then file by file on a thread of its own.

use std::{
    convert::Infallible,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, UNIX_EPOCH},
};

use super::io_error;
use crate::{image::Error, kind::Kind, sys::tree};

/// How long the end of a store waits for its thread.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// The trash. What is in it at the end of a daemon goes with the start of the next.
pub(super) struct Trash {
    directory: PathBuf,
    /// When it was opened, in nanoseconds: names of an earlier daemon are others.
    opened: u128,
    count: AtomicU64,
    is_closing: Arc<AtomicBool>,
    // Nothing only at the very end.
    work: Option<Sender<PathBuf>>,
    /// Ends when the worker does.
    // A receiver is not shared; nobody but the end looks at it.
    worker: Mutex<Receiver<Infallible>>,
}

impl Trash {
    /// Opens a directory and starts to empty it.
    pub(super) fn open(directory: PathBuf) -> Result<Self, Error> {
        let failed = io_error("empty", &directory);
        let old = fs::read_dir(&directory).map_err(&failed)?;
        let old: Vec<PathBuf> = old.flatten().map(|entry| entry.path()).collect();
        let (work, queue) = mpsc::channel::<PathBuf>();
        let is_closing = Arc::new(AtomicBool::new(false));
        let closing = is_closing.clone();
        let (ends, worker) = mpsc::channel();
        let empty = move || {
            let _ends: Sender<Infallible> = ends;
            for path in old.into_iter().chain(queue) {
                if closing.load(Ordering::Relaxed) {
                    return;
                }
                if let Err(error) = tree::remove_at(&path) {
                    let path = path.display();
                    tracing::warn!(%path, %error, "removed layer is left until the next start");
                }
            }
        };
        thread::Builder::new().name("trash".to_owned()).spawn(empty).map_err(failed)?;
        let opened = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
        Ok(Self {
            directory,
            opened,
            count: AtomicU64::new(0),
            is_closing,
            work: Some(work),
            worker: Mutex::new(worker),
        })
    }

    /// A path in the trash that nothing has had since the store was opened.
    pub(super) fn fresh(&self, name: &str) -> PathBuf {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        self.directory.join(format!("{name}.{}.{count}", self.opened))
    }

    /// Takes a directory away; one that is not there is no error.
    pub(super) fn discard(&self, path: &Path) -> Result<(), Error> {
        let Some(name) = path.file_name() else { return Ok(()) };
        let target = self.fresh(&name.to_string_lossy());
        let away = match fs::rename(path, &target) {
            Ok(()) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // On a full disk there may be no room for another name: it goes where it is.
            Err(error) if Kind::of_io(&error) == Kind::ResourceExhausted => path.to_owned(),
            Err(error) => return Err(io_error("remove", path)(error)),
        };
        if let Some(work) = &self.work {
            // Without its thread it stays until the next start.
            work.send(away).ok();
        }
        Ok(())
    }
}

impl Drop for Trash {
    /// Waits a moment for the directory that is being taken apart, and not for a disk that
    /// hangs.
    fn drop(&mut self) {
        self.is_closing.store(true, Ordering::Relaxed);
        self.work = None;
        let worker = self.worker.get_mut().unwrap_or_else(PoisonError::into_inner);
        worker.recv_timeout(LAST_MOMENT).ok();
    }
}
