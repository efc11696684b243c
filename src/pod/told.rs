//! What is told of a pod or a container again and again.

use std::sync::{Mutex, OnceLock, PoisonError};

use bytes::Bytes;

/// The same bytes for everybody who asks. Lists are asked for every second, and what they tell
/// of one thing changes a few times in its life.
#[derive(Debug, Default)]
pub struct Told {
    /// Who it is: that never changes.
    pub attributes: OnceLock<Bytes>,
    // Held while an item is made.
    item: Mutex<Option<(i32, Bytes)>>,
}

impl Told {
    /// Its item of a list, which is made anew where its state is not that of the last one.
    pub fn item(&self, state: i32, make: impl FnOnce() -> Bytes) -> Bytes {
        let mut item = self.item.lock().unwrap_or_else(PoisonError::into_inner);
        match &*item {
            Some((of, bytes)) if *of == state => bytes.clone(),
            _ => item.insert((state, make())).1.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Told;

    #[test]
    fn an_item_is_made_once_for_each_state() {
        let told = Told::default();
        let of = |state, bytes: &'static [u8]| told.item(state, || bytes.into());
        assert_eq!(of(0, b"created"), &b"created"[..]);
        assert_eq!(of(0, b"again"), &b"created"[..]);
        assert_eq!(of(1, b"runs"), &b"runs"[..]);
        assert_eq!(of(1, b"again"), &b"runs"[..]);
    }
}
