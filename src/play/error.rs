//! What keeps a manifest from being run.

use std::fmt;

use thiserror::Error;

/// A field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field's path, as `spec.containers[0].image`.
    pub path: String,
    /// Why it cannot be so.
    pub reason: String,
}

impl Problem {
    /// A field and what is wrong with it.
    pub(super) fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.reason)
    }
}

/// What is wrong with a manifest.
#[derive(Debug, Error)]
pub enum Error {
    /// It is not YAML as Kubernetes reads it.
    #[error("it is no YAML that can be read: {0}")]
    Yaml(String),
    /// An object without a kind.
    #[error("an object has no kind; `kind: Pod` and `apiVersion: v1` make it a pod")]
    NoKind,
    /// An object of another kind.
    #[error(
        "objects of kind {0} need a cluster; what can be run is one Pod, with the ConfigMaps and \
         Secrets that it needs in the same file"
    )]
    Kind(String),
    /// No pod.
    #[error("there is no pod in it: an object with `kind: Pod`")]
    NoPod,
    /// More than one pod.
    #[error("there are {0} pods in it; one file is one pod")]
    SeveralPods(usize),
    /// A value that no type takes.
    #[error("an object cannot be understood: {0}")]
    Object(String),
    /// Fields that are wrong or not known, all of them.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n  ")
}
