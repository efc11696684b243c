//! Gives the directories that a layer's archive took for granted the owner and mode that
//! they have in the layers below.
//!
//! A layer is unpacked once and shared by diff id, but what lies below it can differ from
//! image to image. So a layer is settled when it first joins a stack, and the result is
//! kept with it. A stack that gives another result needs a layer of its own: of each diff
//! id there are as many layers as there are different results, which is nearly always one.

use std::path::PathBuf;

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid};

use super::{
    Error,
    layers::{Layer, Layers, Lease, Owner, io_error},
    stack::Stack,
};

/// What a directory gets that no layer below has.
const DEFAULT: Owner = Owner { mode: 0o755, uid: 0, gid: 0 };

/// Settles one of the candidates, which have the same diff id, upon the stack `below` (the
/// top layer first). Nothing when none of them fits.
pub(super) fn settle(
    layers: &Layers,
    candidates: &[Lease],
    below: &[PathBuf],
) -> Result<Option<Lease>, Error> {
    let mut stack = None;
    let mut fresh = None;
    for lease in candidates {
        let Some(layer) = layers.get(lease.number) else { continue };
        if layer.implied.is_empty() {
            return Ok(Some(lease.clone()));
        }
        let stack = match &stack {
            Some(stack) => stack,
            None => stack.insert(Stack::open(below).map_err(io_error("open", layers.directory()))?),
        };
        let owners =
            owners(stack, &layer).map_err(io_error("look below", &layers.path(lease.number)))?;
        match &layer.settled {
            Some(settled) if *settled == owners => return Ok(Some(lease.clone())),
            Some(_) => {}
            None => fresh = Some((lease, layer, owners)),
        }
    }
    let Some((lease, layer, owners)) = fresh else { return Ok(None) };
    apply(layers, lease.number, &layer, &owners)?;
    layers.settle(lease.number, owners)?;
    Ok(Some(lease.clone()))
}

fn owners(stack: &Stack, layer: &Layer) -> std::io::Result<Vec<Owner>> {
    let owner = |path: &Vec<u8>| {
        Ok(stack.directory(path)?.map_or(DEFAULT, |stat| Owner {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
        }))
    };
    layer.implied.iter().map(owner).collect()
}

fn apply(layers: &Layers, number: u64, layer: &Layer, owners: &[Owner]) -> Result<(), Error> {
    let path = layers.path(number);
    let failed = io_error("settle", &path);
    let failed = |errno: rustix::io::Errno| failed(errno.into());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&path, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(failed)?;
    for (directory, owner) in layer.implied.iter().zip(owners) {
        let name = if directory.is_empty() { b"." } else { directory.as_slice() };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let fd = rustix::fs::openat2(&root, name, flags, Mode::empty(), resolve).map_err(failed)?;
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        rustix::fs::fchown(&fd, Some(uid), Some(gid)).map_err(failed)?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(owner.mode)).map_err(failed)?;
    }
    Ok(())
}
