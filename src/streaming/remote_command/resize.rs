//! Sizes of a client's terminal: JSON objects, one after the other, cut anywhere.

use rustix::termios::{Winsize, tcsetwinsize};
use serde::Deserialize;

use std::os::fd::OwnedFd;

use crate::streaming::queue::Incoming;

/// The most bytes without a whole object; one has about thirty.
const MAX_PENDING: usize = 4096;

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// Gives a terminal the sizes that the client sends, until it sends nothing more.
pub async fn follow(mut sizes: Incoming, terminal: OwnedFd) {
    let mut pending = Vec::new();
    while let Some(piece) = sizes.next().await {
        pending.extend_from_slice(&piece);
        let Some(last) = take_last(&mut pending) else { return };
        if let Some(Size { width, height }) = last {
            let size = Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
            // A program that has ended has no size.
            let _ = tcsetwinsize(&terminal, size);
        }
    }
}

/// Takes whole objects and returns the last that is a size. `None` for what is not JSON.
fn take_last(pending: &mut Vec<u8>) -> Option<Option<Size>> {
    let mut objects = serde_json::Deserializer::from_slice(pending).into_iter::<Size>();
    let mut last = None;
    let mut taken = 0;
    for object in objects.by_ref() {
        match object {
            // A terminal without rows or columns confuses every program.
            Ok(Size { width: 0, .. } | Size { height: 0, .. }) => {}
            Ok(size) => last = Some(size),
            Err(error) if error.is_eof() => break,
            Err(_) => return None,
        }
        taken = usize::MAX;
    }
    if taken == usize::MAX {
        taken = objects.byte_offset();
    }
    pending.drain(..taken);
    (pending.len() <= MAX_PENDING).then_some(last)
}

#[cfg(test)]
mod tests {
    use super::{MAX_PENDING, Size, take_last};

    #[test]
    fn sizes_may_be_cut_anywhere() {
        let mut pending = br#"{"Width":80,"Height":24}{"Width":100,"Height":30}
            {"Width":0,"Height":9}{"Wid"#
            .to_vec();
        assert_eq!(take_last(&mut pending), Some(Some(Size { width: 100, height: 30 })));
        assert_eq!(pending, b"{\"Wid");
        assert_eq!(take_last(&mut pending), Some(None));
        pending.extend_from_slice(b"th\":5,\"Height\":6}");
        assert_eq!(take_last(&mut pending), Some(Some(Size { width: 5, height: 6 })));
        assert!(pending.is_empty());
    }

    #[test]
    fn what_is_no_size_ends_it() {
        assert_eq!(take_last(&mut b"[]".to_vec()), None);
        assert_eq!(take_last(&mut b"{\"Width\":-1,\"Height\":1}".to_vec()), None);
        assert_eq!(take_last(&mut vec![b' '; MAX_PENDING + 1]), None);
    }
}
