//! What all decompression of the daemon together may take for its windows, and how work is
//! called off.
//!
//! The window of most layers is small and is just taken; large ones come out of one budget, so
//! that many pulls of such layers wait for each other and for nobody else.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The largest window that is decompressed at all, as with zstd's own program.
pub(super) const LARGEST: u64 = 128 << 20;
/// What every decompressor is to support (RFC 8878, section 3.1.1.1.2), and hardly any image
/// goes beyond.
const SMALL: u64 = 8 << 20;
/// All large windows at one time.
const BUDGET: u64 = 2 * LARGEST;

/// The budget of one daemon.
pub(in crate::image) struct Windows {
    free: Mutex<u64>,
    changed: Condvar,
}

impl Default for Windows {
    fn default() -> Self {
        Self { free: Mutex::new(BUDGET), changed: Condvar::new() }
    }
}

/// A part of the budget.
pub(super) struct Window {
    windows: Arc<Windows>,
    size: u64,
}

impl Windows {
    /// Waits for a window of that size, or until the work is called off.
    pub(super) fn take(self: &Arc<Self>, size: u64, stop: &Stop) -> io::Result<Window> {
        let counted = if size <= SMALL { 0 } else { size };
        let mut free = self.lock();
        while *free < counted && !stop.is_set() {
            free = self.changed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        stop.check()?;
        *free -= counted;
        Ok(Window { windows: self.clone(), size: counted })
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        *self.windows.lock() += self.size;
        self.windows.changed.notify_all();
    }
}

/// Whether somebody still wants the work.
#[derive(Clone, Default)]
pub(in crate::image) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Calls the work off when the answer is dropped.
    pub(in crate::image) fn on_drop(&self, windows: Arc<Windows>) -> StopOnDrop {
        StopOnDrop { stop: self.clone(), windows }
    }

    pub(in crate::image) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn check(&self) -> io::Result<()> {
        if self.is_set() { Err(io::Error::other("nobody wants it any longer")) } else { Ok(()) }
    }
}

/// See [`Stop::on_drop`].
pub(in crate::image) struct StopOnDrop {
    stop: Stop,
    windows: Arc<Windows>,
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        // With the lock, so that nobody is between looking and waiting.
        let _free = self.windows.lock();
        self.stop.0.store(true, Ordering::Relaxed);
        self.windows.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn large_windows_wait_for_each_other_and_small_ones_for_nobody() {
        let windows = Arc::new(Windows::default());
        let take = |size| windows.take(size, &Stop::default()).unwrap();
        let (first, second) = (take(LARGEST), take(LARGEST));
        let _small: Vec<Window> = (0..1000).map(|_| take(SMALL)).collect();
        thread::scope(|scope| {
            let third = scope.spawn(|| take(LARGEST));
            // It can only end after this.
            drop(first);
            third.join().unwrap();
        });
        drop(second);
        assert_eq!(*windows.lock(), BUDGET);
    }

    #[test]
    fn who_waits_for_a_window_can_be_called_off() {
        let windows = Arc::new(Windows::default());
        let _all = windows.take(BUDGET, &Stop::default()).unwrap();
        let stop = Stop::default();
        let guard = stop.on_drop(windows.clone());
        thread::scope(|scope| {
            let waiting = scope.spawn(|| windows.take(LARGEST, &stop).is_err());
            drop(guard);
            assert!(waiting.join().unwrap());
        });
    }
}
