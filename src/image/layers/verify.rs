//! The archive of a layer made again, and a layer compared with what it was.

use std::{
    fs,
    io::{self, Read, Write},
};

use rustix::fs::{Mode, OFlags};

use super::{Layer, Layers, io_error};
use crate::image::{
    Digest, Error,
    digest::Hasher,
    recipe::{self, Broken, Items, Place, Rebuilt},
};

const BUFFER: usize = 256 << 10;

/// How closely a layer is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) enum Depth {
    /// Every file is there and as long as it was.
    Sizes,
    /// All content is read and compared with the diff id.
    Content,
}

impl Layers {
    /// Writes the layer's archive as it was, uncompressed, to `sink`.
    ///
    /// # Errors
    /// A layer without a recipe; one that is not what it was, which shows at the end: what
    /// was written until then is of no use.
    pub(in crate::image) fn rebuild(&self, number: u64, sink: &mut dyn Write) -> Result<(), Error> {
        let (layer, recipe, place) = self.open_recipe(number)?;
        let failed = io_error("read", &self.path(number));
        let mut archive = Rebuilt::open(recipe, &place).map_err(&failed)?;
        let mut hasher = Hasher::like(&layer.diff_id);
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = match archive.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(broken(layer.diff_id, error.to_string()));
                }
                Err(error) => return Err(failed(error)),
            };
            hasher.update(&buffer[..length]);
            sink.write_all(&buffer[..length]).map_err(|source| Error::Sink { source })?;
        }
        match hasher.finish() {
            found if found == layer.diff_id => Ok(()),
            found => Err(broken(layer.diff_id, format!("its content has digest {found}"))),
        }
    }

    /// Bytes of the archive that [`Layers::rebuild`] writes.
    ///
    /// # Errors
    /// A layer without a recipe, or with one that is damaged.
    pub(in crate::image) fn archive_size(&self, number: u64) -> Result<u64, Error> {
        let (layer, recipe, _) = self.open_recipe(number)?;
        let size = Items::open(recipe).and_then(Items::archive_size);
        size.map_err(|error| broken(layer.diff_id, error.to_string()))
    }

    /// Compares the layer with what was unpacked. One without a recipe cannot be compared
    /// and passes.
    ///
    /// # Errors
    /// [`Error::Broken`] where it is not what it was.
    pub(in crate::image) fn verify(&self, number: u64, depth: Depth) -> Result<(), Error> {
        let (layer, recipe, place) = match self.open_recipe(number) {
            Err(Error::NoRecipe { .. }) => return Ok(()),
            result => result?,
        };
        let result = match depth {
            Depth::Sizes => recipe::check_sizes(recipe, &place),
            Depth::Content => recipe::check(recipe, &place, &layer.diff_id),
        };
        result.map_err(|found| match found {
            Broken::Layer(reason) => broken(layer.diff_id, reason),
            Broken::Io(source) => io_error("read", &self.path(number))(source),
        })
    }

    fn open_recipe(&self, number: u64) -> Result<(Layer, fs::File, Place), Error> {
        let layer = self.get(number).ok_or(Error::Task)?;
        if layer.recipe.is_none() {
            return Err(Error::NoRecipe { layer: layer.diff_id });
        }
        let recipe = match fs::File::open(self.recipe(number)) {
            Ok(recipe) => recipe,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(broken(layer.diff_id, "its recipe is gone".to_owned()));
            }
            Err(error) => return Err(io_error("open", &self.recipe(number))(error)),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(self.path(number), flags, Mode::empty());
        let root = root.map_err(|errno| broken(layer.diff_id, errno.to_string()))?;
        let moves = moves(&layer);
        Ok((layer, recipe, Place { root, moves }))
    }
}

/// The directories that were moved when the layer joined its stack.
fn moves(layer: &Layer) -> Vec<(Vec<u8>, Vec<u8>)> {
    let owners = layer.settled.iter().flatten();
    let moved = layer.implied.iter().zip(owners).filter_map(|(from, owner)| {
        let to = owner.place.clone()?;
        Some((from.clone(), to))
    });
    moved.collect()
}

fn broken(layer: Digest, reason: String) -> Error {
    Error::Broken { layer, reason }
}
