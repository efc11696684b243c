//! What `criquet run` and `criquet stop` may be told.

use std::path::PathBuf;

use clap::Args;

use crate::cli::image::args::Node;

/// Where pods that are run by hand have their volumes and logs.
pub(super) const DIRECTORY: &str = "/var/lib/criquet-run";

/// `criquet run`.
#[derive(Debug, Args)]
#[command(after_help = "^C ends the pod and removes all of it; ^C once more does not wait.\n\
                  Without a daemon that answers it starts one of its own, which ends with the \
                  last pod.\n\
                  Exit code: that of the first container that failed, 0 where none did.")]
pub struct Run {
    /// A manifest: one Pod, with the ConfigMaps and Secrets that it needs; - for standard input
    #[arg(value_name = "POD.yaml")]
    pub manifest: PathBuf,
    /// Go back to the shell once the pod runs; `criquet stop` ends it
    #[arg(short, long)]
    pub detach: bool,
    /// Only tell whether the manifest is understood, and what of it means nothing here
    #[arg(long, conflicts_with = "detach")]
    pub check: bool,
    /// Images to import first, of `docker save` or an OCI layout in a tar file
    #[arg(long, value_name = "FILE.tar")]
    pub import: Vec<PathBuf>,
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// In the background, started by --detach.
    #[arg(long, hide = true)]
    pub background: bool,
}

/// `criquet stop`.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 it is gone, 1 there is none of that name.")]
pub struct Stop {
    /// The pod: NAME, or NAMESPACE/NAME
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Do not wait for containers to end by themselves
    #[arg(long)]
    pub now: bool,
    /// Where.
    #[command(flatten)]
    pub place: Place,
}

/// On which daemon.
#[derive(Debug, Args)]
pub struct Place {
    /// Use a daemon of its own, also where another answers
    #[arg(long)]
    pub own: bool,
    /// Where volumes, logs and a daemon of its own are
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
    pub directory: PathBuf,
    /// The node.
    #[command(flatten)]
    pub node: Node,
}
