//! `criquet image rm` and `criquet image prune`.

use std::collections::BTreeMap;

use super::{Client, Error, args::Rm, list::spec};
use crate::cri::v1::{
    Image, ImageStatusRequest, ListContainersRequest, ListImagesRequest, RemoveImageRequest,
};

/// Removes images and returns a line for each with what it was called.
pub(super) fn remove(client: &Client, arguments: &Rm) -> Result<String, Error> {
    let used = if arguments.force { BTreeMap::new() } else { used_images(client)? };
    let mut lines = String::new();
    for name in &arguments.images {
        let request = ImageStatusRequest { image: Some(spec(name.clone())), verbose: false };
        let Some(image) = client.ask(client.images().image_status(request))?.image else {
            if arguments.force {
                continue;
            }
            return Err(Error::Absent(name.clone()));
        };
        if let Some(container) = used.get(&image.id) {
            return Err(Error::InUse { image: name.clone(), container: container.clone() });
        }
        lines.push_str(&remove_one(client, image)?);
    }
    Ok(lines)
}

/// Removes images that nobody uses: those without a tag, or all but the pinned ones.
pub(super) fn prune(client: &Client, all: bool) -> Result<String, Error> {
    let used = used_images(client)?;
    let images = client.ask(client.images().list_images(ListImagesRequest::default()))?.images;
    let is_superfluous = |image: &Image| {
        !image.pinned && !used.contains_key(&image.id) && (all || image.repo_tags.is_empty())
    };
    images.into_iter().filter(is_superfluous).map(|image| remove_one(client, image)).collect()
}

fn remove_one(client: &Client, image: Image) -> Result<String, Error> {
    let request = RemoveImageRequest { image: Some(spec(image.id.clone())) };
    client.ask(client.images().remove_image(request))?;
    let names = image.repo_tags.iter().map(|tag| format!("Untagged: {tag}\n"));
    Ok(names.collect::<String>() + &format!("Deleted: {}\n", image.id))
}

/// The images of all containers, each with the id of a container that has it.
fn used_images(client: &Client) -> Result<BTreeMap<String, String>, Error> {
    let containers = client.ask(client.pods().list_containers(ListContainersRequest::default()))?;
    let items = containers.containers.iter().filter_map(|container| container.plain().ok());
    Ok(items.map(|container| (container.image_id, container.id)).collect())
}
