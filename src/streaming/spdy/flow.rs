//! How much may be sent: a window for each stream and one for all together (SPDY/3.1, section
//! 2.6.8).
//!
//! Go's `spdystream`, the client inside kubectl, crictl and the kubelet, neither keeps to
//! windows nor ever grants more: whoever waited for it would wait forever after 64 KiB. So
//! windows bind from the first frame on with which the other side shows that it has them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::error::Error;

/// The window of a stream, and of a session, before anything is said about it.
const DEFAULT_WINDOW: i64 = 64 * 1024;

const MAX_WINDOW: i64 = i32::MAX as i64;

/// The windows of what is sent in a session.
#[derive(Debug)]
pub(super) struct Windows {
    // Held for a few additions.
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    binding: bool,
    session: i64,
    initial: i64,
    streams: HashMap<u32, i64>,
}

impl Default for Windows {
    fn default() -> Self {
        let state = State {
            binding: false,
            session: DEFAULT_WINDOW,
            initial: DEFAULT_WINDOW,
            streams: HashMap::new(),
        };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }
}

impl Windows {
    pub(super) fn open(&self, id: u32) {
        let mut state = self.state();
        let initial = state.initial;
        state.streams.insert(id, initial);
    }

    pub(super) fn close(&self, id: u32) {
        self.state().streams.remove(&id);
        // Whoever waits for this window waits no longer.
        self.changed.notify_waiters();
    }

    /// Waits until something may be sent on a stream, and takes at most `wanted` bytes of its
    /// window.
    pub(super) async fn take(&self, id: u32, wanted: usize) -> usize {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(taken) = self.state().take(id, wanted as i64) {
                return taken as usize;
            }
            changed.await;
        }
    }

    /// The other side allows more.
    ///
    /// # Errors
    /// [`Error::Window`] for more than a window can hold.
    pub(super) fn grant(&self, id: u32, delta: u32) -> Result<(), Error> {
        let mut state = self.state();
        state.binding = true;
        let window = match id {
            0 => Some(&mut state.session),
            // The stream may be closed already.
            id => state.streams.get_mut(&id),
        };
        if let Some(window) = window {
            *window += i64::from(delta);
            if *window > MAX_WINDOW {
                return Err(Error::Window(id));
            }
        }
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    /// The other side sets what streams start with; those that are open change alike.
    pub(super) fn set_initial(&self, size: u32) {
        let mut state = self.state();
        state.binding = true;
        let change = i64::from(size) - state.initial;
        state.initial = i64::from(size);
        state.streams.values_mut().for_each(|window| *window += change);
        drop(state);
        self.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, id: u32, wanted: i64) -> Option<i64> {
        // What is sent on a closed stream goes nowhere and needs no window.
        let Some(stream) = self.streams.get_mut(&id) else { return Some(wanted) };
        let taken = match self.binding {
            true => wanted.min(*stream).min(self.session),
            false => wanted,
        };
        if taken <= 0 && wanted > 0 {
            return None;
        }
        *stream -= taken;
        self.session -= taken;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::{DEFAULT_WINDOW, Windows};

    #[test]
    fn windows_bind_once_the_other_side_has_them() {
        let windows = Windows::default();
        windows.open(1);
        windows.open(3);
        let window = DEFAULT_WINDOW as usize;
        let take = |id, wanted| windows.take(id, wanted).now_or_never();
        assert_eq!(take(1, window + 5), Some(window + 5));
        windows.grant(0, 105).unwrap();
        // That of the session has 100 bytes left, that of stream 1 lacks 5.
        assert_eq!(take(1, 10), None);
        windows.grant(1, 12).unwrap();
        assert_eq!(take(1, 10), Some(7));
        assert_eq!(take(3, 1000), Some(93));
        assert_eq!(take(3, 1), None);
        windows.close(3);
        assert_eq!(take(3, 1), Some(1));
    }

    #[tokio::test]
    async fn whoever_waits_is_woken() {
        let windows = Windows::default();
        windows.open(1);
        windows.set_initial(0);
        let waiting = windows.take(1, 5);
        let granting = async {
            tokio::task::yield_now().await;
            windows.grant(1, 3).unwrap();
        };
        assert_eq!(tokio::join!(waiting, granting).0, 3);
    }

    #[test]
    fn a_window_has_an_end() {
        let windows = Windows::default();
        windows.grant(0, i32::MAX as u32).unwrap_err();
    }
}
