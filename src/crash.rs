//! Crash points: the moments between the steps that record or undo something.
//!
//! What must hold after the daemon died is held at each of them by a test, which lets a daemon
//! die at the first, the second, and so on to the last point that a call passes. In a release
//! build a point is nothing.

/// A moment at which a daemon that is tested may die.
///
/// The name is for people; the test counts. With `CRIQUET_CRASH_AT=n` in the environment of a
/// build with debug assertions, the process kills itself at the n-th point that it passes, and
/// says its name on standard error.
#[inline]
pub fn point(name: &str) {
    #[cfg(debug_assertions)]
    tested::pass(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod tested {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };

    // The one process-wide state: points lie in all modules, and none of them should carry a
    // counter around for the sake of a test.
    static LEFT: LazyLock<Option<AtomicU64>> = LazyLock::new(|| {
        let number = std::env::var("CRIQUET_CRASH_AT").ok()?.parse().ok()?;
        Some(AtomicU64::new(number))
    });

    pub(super) fn pass(name: &str) {
        let Some(left) = &*LEFT else { return };
        if left.fetch_sub(1, Ordering::SeqCst) == 1 {
            eprintln!("crash point: {name}");
            let own = rustix::process::getpid();
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
            // The signal ends this thread as well, in a moment.
            loop {
                std::thread::park();
            }
        }
    }
}
