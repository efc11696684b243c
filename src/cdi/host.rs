//! What a device node is on this host.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use super::Error;
use crate::spec::edits::DeviceNode;

/// Fills in what a specification leaves to the host: type, numbers and mode.
///
/// # Errors
/// A path that is no device, or another kind of one.
pub(super) fn fill(node: &mut DeviceNode, device: &str) -> Result<(), Error> {
    let is_whole = !node.kind.is_empty() && (node.major != 0 || node.kind == "p");
    if is_whole {
        return Ok(());
    }
    let path: &Path = match node.host_path.as_os_str().is_empty() {
        true => &node.path,
        false => &node.host_path,
    };
    let wrong =
        |reason: String| Error::Host { device: device.to_owned(), path: path.to_owned(), reason };
    let metadata =
        fs::metadata(path).map_err(|error| wrong(format!("which is absent: {error}")))?;
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        kind if kind.is_fifo() => "p",
        _ => return Err(wrong("which is no device".to_owned())),
    };
    let is_same = matches!((node.kind.as_str(), kind), ("", _) | ("u", "c")) || node.kind == kind;
    if !is_same {
        return Err(wrong(format!("which has the type {kind} and not {}", node.kind)));
    }
    if node.major == 0 && kind != "p" {
        node.major = i64::from(rustix::fs::major(metadata.rdev()));
        node.minor = i64::from(rustix::fs::minor(metadata.rdev()));
    }
    kind.clone_into(&mut node.kind);
    node.file_mode.get_or_insert(metadata.mode() & 0o7777);
    Ok(())
}
