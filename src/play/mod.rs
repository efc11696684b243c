//! Pods from manifests of Kubernetes, without a cluster.
//!
//! Entry points: [`Manifest::read`], and [`Plan::of`], which says in the words of the CRI what is
//! to be made. Nothing here makes anything: that is the business of `cli/run`.

mod error;
mod manifest;
mod translate;

pub use error::{Error, Problem};
pub use manifest::Manifest;
pub use translate::{
    Action, Container, Facts, File, Http, LABEL_NAME, LABEL_NAMESPACE, LABEL_UID, Plan, Probe,
    Pull, Restart, Source, SubPath, Volume, hosts,
};

use std::path::PathBuf;

/// Where a volume of a pod is.
pub fn volume_directory(facts: &Facts, volume: &str) -> PathBuf {
    translate::place(facts, volume)
}
