//! The recipe of a layer: what its archive had besides the contents of files, so that the
//! very archive can be made again from the recipe and the layer's directory, byte for byte.
//!
//! With it an image can be exported under its own id although nothing compressed is kept,
//! and a layer that the disk has broken is found: its archive no longer has its diff id.
//!
//! Entry points: [`Recorder`] while a layer is unpacked, [`Rebuilt`] afterwards.
//!
//! A recipe is one zstd stream: a magic line, then items. An item is a tag, a length and
//! either bytes of the archive as they were, or a stretch of a file's content by its path.

mod check;
mod rebuilt;
mod recorder;
#[cfg(test)]
mod tests;

pub(super) use check::{Broken, check, check_sizes};
pub(super) use rebuilt::{Items, Place, Rebuilt};
pub(super) use recorder::Recorder;

const MAGIC: &[u8] = b"criquet layer recipe 1\n";
/// Bytes of the archive, as they were.
const VERBATIM: u8 = 0;
/// A stretch of a file.
const CONTENT: u8 = 1;
/// No path is longer, as no path of an archive is.
const PATH_LIMIT: usize = 2 * 4096;
