//! Gives the directories that a layer's archive took for granted the owner and mode that
//! they have in the layers below; and where these have a link instead, such as `bin` to
//! `usr/bin`, moves what the layer has to where the link leads, as if the archive had been
//! unpacked on top of them.
//!
//! A layer is unpacked once and shared by diff id, but what lies below it can differ from
//! image to image. So a layer is settled when it first joins a stack, and the result is
//! kept with it. A stack that gives another result needs a layer of its own: of each diff
//! id there are as many layers as there are different results, which is nearly always one.

use std::{io, os::fd::OwnedFd, path::PathBuf};

use rustix::{
    fs::{AtFlags, Dir, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Uid},
    io::Errno,
};

use super::{
    Error,
    layers::{Layer, Layers, Lease, Owner, io_error},
    stack::Stack,
    unpack::{is_opaque, remove, set_opaque},
};

const FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

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
    if apply(layers, lease.number, &layer, &owners)? {
        layers.lose_recipe(lease.number);
    }
    layers.settle(lease.number, owners)?;
    Ok(Some(lease.clone()))
}

/// What becomes of the layer's implied directories upon that stack: first each of them, in
/// their order, then those that lead to the new place of one that is moved.
fn owners(stack: &Stack, layer: &Layer) -> io::Result<Vec<Owner>> {
    let mut moves: Vec<(&[u8], Vec<u8>)> = Vec::new();
    let mut owners = Vec::with_capacity(layer.implied.len());
    for path in &layer.implied {
        let mut place = moves.iter().find_map(|(from, to)| {
            let rest = path.strip_prefix(*from).filter(|rest| rest.starts_with(b"/"))?;
            Some([to, rest].concat())
        });
        if place.is_none()
            && let Some(target) = stack.link(path)?
        {
            moves.push((path, target.clone()));
            place = Some(target);
        }
        owners.push(owner(stack, path, place)?);
    }
    for (_, to) in &moves {
        for end in (0..to.len()).filter(|index| to[*index] == b'/') {
            owners.push(owner(stack, b"", Some(to[..end].to_vec()))?);
        }
    }
    Ok(owners)
}

fn owner(stack: &Stack, path: &[u8], place: Option<Vec<u8>>) -> io::Result<Owner> {
    let found = stack.directory(place.as_deref().unwrap_or(path))?;
    Ok(found.map_or(Owner { mode: 0o755, uid: 0, gid: 0, place: place.clone() }, |stat| Owner {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        place,
    }))
}

/// Whether something of the layer was lost: what lay in a place that leads to another.
fn apply(layers: &Layers, number: u64, layer: &Layer, owners: &[Owner]) -> Result<bool, Error> {
    let path = layers.path(number);
    let failed = io_error("settle", &path);
    if owners.iter().any(|owner| owner.place.is_some()) {
        layers.unsettle(number)?;
    }
    let root = rustix::fs::open(&path, FLAGS, Mode::empty());
    let root = root.map_err(|errno| failed(errno.into()))?;
    apply_beneath(&root, layer, owners).map_err(failed)
}

fn apply_beneath(root: &OwnedFd, layer: &Layer, owners: &[Owner]) -> io::Result<bool> {
    let root_name: &[u8] = b"";
    let implied: Vec<&[u8]> = layer.implied.iter().map(Vec::as_slice).collect();
    let sources = implied.iter().copied().chain(std::iter::repeat(root_name));
    let steps: Vec<(&[u8], &Owner)> = sources.zip(owners).collect();
    // What the archive lists keeps what the archive says.
    let is_listed = |path: &[u8]| !implied.contains(&path) && open(root, path).is_ok();
    let listed: Vec<&[u8]> =
        owners.iter().filter_map(|owner| owner.place.as_deref()).filter(|p| is_listed(p)).collect();
    let mut loses = false;
    for (source, owner) in &steps {
        if let (Some(place), false) = (&owner.place, source.is_empty()) {
            loses |= relocate(root, source, place)?;
        }
    }
    for (source, owner) in steps {
        let path = owner.place.as_deref().unwrap_or(source);
        if listed.contains(&path) {
            continue;
        }
        let directory = match open(root, path) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if owner.place.is_some() => continue,
            result => result?,
        };
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        rustix::fs::fchown(&directory, Some(uid), Some(gid))?;
        rustix::fs::fchmod(&directory, Mode::from_raw_mode(owner.mode))?;
    }
    Ok(loses)
}

fn open(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let name = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(root, name, FLAGS, Mode::empty(), resolve)
}

/// Moves what the layer has in `from` to `to`: below, there is a link from one to the
/// other, which a directory of the layer would hide with all that is behind it. One that is
/// moved already, with its parent, is not there any more.
fn relocate(root: &OwnedFd, from: &[u8], to: &[u8]) -> io::Result<bool> {
    let Ok(source) = open(root, from) else { return Ok(false) };
    let mut target = open(root, b"")?;
    for name in to.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
        match rustix::fs::mkdirat(&target, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        target = match open(&target, name) {
            Ok(next) => next,
            // The layer itself has something else there, which goes before.
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        };
    }
    if is_opaque(&source) {
        set_opaque(&target)?;
    }
    let loses = merge(&source, &target)?;
    let (parent, name) = match from.iter().rposition(|b| *b == b'/') {
        Some(slash) => (open(root, &from[..slash])?, &from[slash + 1..]),
        None => (open(root, b"")?, from),
    };
    rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?;
    Ok(loses)
}

/// Moves all entries from one directory to another. Where both have a directory, these are
/// merged; where they have anything else, the target's stays. Whether that was so anywhere.
fn merge(source: &OwnedFd, target: &OwnedFd) -> io::Result<bool> {
    let mut loses = false;
    for entry in Dir::read_from(source)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        match rustix::fs::renameat_with(source, name, target, name, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            result => {
                result?;
                continue;
            }
        }
        if let (Ok(inner_source), Ok(inner_target)) = (open(source, name), open(target, name)) {
            loses |= merge(&inner_source, &inner_target)?;
            rustix::fs::unlinkat(source, name, AtFlags::REMOVEDIR)?;
        } else {
            remove(source, name)?;
            loses = true;
        }
    }
    Ok(loses)
}
