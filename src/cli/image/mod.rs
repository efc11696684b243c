//! `criquet image`: work on the image store.
//!
//! A running daemon does the work itself, since the store is its own. Archives can also be
//! imported and exported without one: then the store is opened here, and held against a
//! daemon that would start meanwhile.

mod archive;
pub mod args;
mod bars;
mod client;
mod error;
mod list;
mod pull;
mod remove;

use crate::{
    admin::v1::{ImageMetricsRequest, ImportedImage, VerifyImagesRequest},
    cli::{config::Config, output},
};

use args::{Image, Node};
pub(super) use client::Client;
pub use error::Error;
pub(super) use list::size;
pub(super) use pull::pulls_table;

/// Does what `criquet image` is told.
pub(super) fn command(command: Image) -> Result<(), crate::cli::Error> {
    let text = match command {
        Image::Pull(arguments) => pull::pull(&open(&arguments.node)?, &arguments)?,
        Image::Ls(arguments) => list::list(&open(&arguments.node)?, &arguments)?,
        Image::Inspect(arguments) => list::inspect(&open(&arguments.node)?, &arguments.images)?,
        Image::Rm(arguments) => remove::remove(&open(&arguments.node)?, &arguments)?,
        Image::Prune(arguments) => remove::prune(&open(&arguments.node)?, arguments.all)?,
        Image::Import(arguments) => {
            let config = config(&arguments.node)?;
            archive::import(&Client::new(&config)?, &config, &arguments)?
        }
        Image::Export(arguments) => {
            let config = config(&arguments.node)?;
            archive::export(&Client::new(&config)?, &config, &arguments)?;
            String::new()
        }
        Image::Verify(node) => {
            let client = open(&node)?;
            let broken = client.ask(client.admin().verify_images(VerifyImagesRequest {}))?.broken;
            broken_text(&broken)
        }
        Image::Pulls(node) => pull::list(&open(&node)?)?,
        Image::Metrics(node) => {
            let client = open(&node)?;
            client.ask(client.admin().image_metrics(ImageMetricsRequest {}))?.text
        }
    };
    output::print(&text)
}

fn broken_text(broken: &[ImportedImage]) -> String {
    let line = |image: &ImportedImage| {
        format!("Removed: {} {} (pull it again)\n", image.id, image.names.join(" "))
    };
    match broken {
        [] => "All images are whole.\n".to_owned(),
        broken => broken.iter().map(line).collect(),
    }
}

fn config(node: &Node) -> Result<Config, crate::cli::Error> {
    Ok(Config::load_with(node.file.config.as_deref(), &node.overrides())?)
}

fn open(node: &Node) -> Result<Client, crate::cli::Error> {
    Ok(Client::new(&config(node)?)?)
}
