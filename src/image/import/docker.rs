//! `manifest.json`, as `docker save` writes it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{CONFIG_LIMIT, Error, Found, FoundLayer, Names, source::Source};
use crate::image::{manifest::MANIFEST_LIMIT, platform::null_is_default, reference::Reference};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default, deserialize_with = "null_is_default")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    layers: Vec<String>,
}

pub(super) fn images(archive: &dyn Source) -> Result<Vec<Found>, Error> {
    let manifest = archive.read("manifest.json", MANIFEST_LIMIT)?;
    let items: Vec<Item> = serde_json::from_slice(&manifest)
        .map_err(|error| archive.wrong(&format!("its manifest.json does not parse: {error}")))?;
    items.into_iter().map(|item| image(archive, item)).collect()
}

fn image(archive: &dyn Source, item: Item) -> Result<Found, Error> {
    let tags = item.repo_tags.iter().map(|tag| Ok(Reference::parse(tag)?.to_string()));
    let layers = item.layers.into_iter().map(|name| FoundLayer::of(archive, name, None));
    Ok(Found {
        names: Names { tags: tags.collect::<Result<_, Error>>()?, digests: Vec::new() },
        config: archive.read(&item.config, CONFIG_LIMIT)?,
        layers: layers.collect::<Result<_, Error>>()?,
        annotations: BTreeMap::new(),
    })
}
