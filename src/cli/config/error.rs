//! What can be wrong with a configuration.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::kind::Kind;

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// The command line names a file that is not there.
    #[error(
        "there is no configuration file {}; name another with --config, or leave --config out",
        path.display()
    )]
    Absent {
        /// As the command line names it.
        path: PathBuf,
    },
    /// A file or the directory of drop-ins cannot be read.
    #[error("cannot read configuration {}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Everything that is wrong in the files.
    #[error("{0}")]
    Invalid(Problems),
    /// Nothing to supervise pods with.
    #[error(
        "the program criquet-monitor is neither beside this program nor at {}; \
         install it there, or set monitor_path",
        path.display()
    )]
    NoMonitor {
        /// The last place that was looked at.
        path: PathBuf,
    },
}

impl Error {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Absent { .. } => Kind::NotFound,
            Error::Read { source, .. } => Kind::of_io(source),
            Error::Invalid(_) => Kind::InvalidArgument,
            Error::NoMonitor { .. } => Kind::FailedPrecondition,
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where; none for what no file says.
    pub place: Option<Place>,
    /// The key with that of its table, such as `network.mtu`; empty for what is no TOML.
    pub key: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl Problem {
    /// A problem whose place is not known yet.
    pub(super) fn new(key: &str, reason: impl Into<String>) -> Self {
        Self { place: None, key: key.to_owned(), reason: reason.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(formatter, "{place}: ")?;
        }
        if !self.key.is_empty() {
            write!(formatter, "{}: ", self.key)?;
        }
        formatter.write_str(&self.reason)
    }
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

impl Place {
    /// The place of a byte of the file's text.
    pub(super) fn of(file: &Path, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[start..].chars().count() + 1,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// All that is wrong; a line for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [problem] => write!(formatter, "{problem}"),
            problems => {
                write!(formatter, "the configuration has {} problems", problems.len())?;
                problems.iter().try_for_each(|problem| write!(formatter, "\n  {problem}"))
            }
        }
    }
}
