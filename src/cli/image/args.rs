//! What `criquet image` may be told.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::{
    admin::v1::ImageOrigin,
    cli::{config::Overrides, file::File},
};

/// `criquet image`.
#[derive(Debug, Subcommand)]
pub enum Image {
    /// Pull an image, or join its pull that is under way
    Pull(Pull),
    /// List images
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Remove images with all their names
    #[command(visible_alias = "remove")]
    Rm(Rm),
    /// Print all that is known of images, as JSON
    Inspect(Inspect),
    /// Import the images of an archive (`docker save`, or an OCI layout), or of containerd
    #[command(visible_alias = "load")]
    Import(Import),
    /// Write images as one archive, for `image import`, `docker load` and OCI tools
    #[command(visible_alias = "save")]
    Export(Export),
    /// Remove images that have no name and that no container uses
    Prune(Prune),
    /// Compare all images with their digests, and remove those that the disk has broken
    Verify(Node),
    /// List the pulls that are under way, whoever has begun them
    Pulls(Node),
    /// Print figures of the image store for Prometheus
    Metrics(Node),
}

/// The node whose images these are.
#[derive(Debug, Default, Args)]
pub struct Node {
    /// The configuration.
    #[command(flatten)]
    pub file: File,
    /// The daemon's socket, instead of the configured one
    #[arg(long, value_name = "unix://PATH")]
    pub listen: Option<String>,
    /// Where images and containers are kept, instead of the configured root
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

impl Node {
    /// What these arguments decide instead of the configuration.
    pub fn overrides(&self) -> Overrides {
        Overrides { root: self.root.clone(), listen: self.listen.clone(), ..Overrides::default() }
    }
}

/// `criquet image pull`.
#[derive(Debug, Args)]
pub struct Pull {
    /// The image's name
    pub image: String,
    /// Credentials for its registry; others on this machine can read command lines, so
    /// rather use --creds-stdin
    #[arg(long, value_name = "USER:PASSWORD", conflicts_with = "creds_stdin")]
    pub creds: Option<String>,
    /// Read USER:PASSWORD from the first line of standard input
    #[arg(long)]
    pub creds_stdin: bool,
    /// Print only the image's id
    #[arg(short, long)]
    pub quiet: bool,
    /// The node.
    #[command(flatten)]
    pub node: Node,
}

/// `criquet image ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// Only the image of that name or id
    pub image: Option<String>,
    /// Print only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Show the manifests' digests
    #[arg(long)]
    pub digests: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// The node.
    #[command(flatten)]
    pub node: Node,
}

/// How a list is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Columns
    Table,
    /// JSON, with the field names of the protocol
    Json,
}

/// `criquet image rm`.
#[derive(Debug, Args)]
pub struct Rm {
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Also images that containers use, which run on; what is not there is no mistake
    #[arg(short, long)]
    pub force: bool,
    /// The node.
    #[command(flatten)]
    pub node: Node,
}

/// `criquet image inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// The node.
    #[command(flatten)]
    pub node: Node,
}

/// `criquet image import`.
#[derive(Debug, Args)]
pub struct Import {
    /// The archive, or a directory; - for an archive on standard input
    #[arg(value_name = "PATH")]
    pub archive: PathBuf,
    /// What it is, where it shall not be found out
    #[arg(long, value_enum)]
    pub from: Option<Origin>,
    /// The namespace of a containerd whose images are wanted [default: k8s.io]
    #[arg(long, value_name = "NAME", requires = "from")]
    pub namespace: Option<String>,
    /// The node.
    #[command(flatten)]
    pub node: Node,
}

/// Where images come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Origin {
    /// The root of a containerd that does not run, as a rule /var/lib/containerd
    Containerd,
    /// What `docker save` writes
    DockerArchive,
    /// An OCI layout: a tar file, or a directory
    Oci,
}

impl From<Origin> for ImageOrigin {
    fn from(origin: Origin) -> Self {
        match origin {
            Origin::Containerd => ImageOrigin::Containerd,
            Origin::DockerArchive => ImageOrigin::DockerArchive,
            Origin::Oci => ImageOrigin::Oci,
        }
    }
}

/// `criquet image export`.
#[derive(Debug, Args)]
pub struct Export {
    /// Names, ids or beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// The archive; - for standard output
    #[arg(short, long, value_name = "FILE.tar")]
    pub output: PathBuf,
    /// The node.
    #[command(flatten)]
    pub node: Node,
}

/// `criquet image prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// All images that no container uses, but not pinned ones
    #[arg(short, long)]
    pub all: bool,
    /// The node.
    #[command(flatten)]
    pub node: Node,
}
