//! What can go wrong with the state database.

use std::path::PathBuf;

use thiserror::Error;

use crate::kind::Kind;

/// A failure of the state database.
#[derive(Debug, Error)]
pub enum Error {
    /// The database file cannot be opened or prepared.
    #[error("cannot open the state database {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: Box<rusqlite::Error>,
    },
    /// A file beside the database cannot be used.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// A newer Criquet wrote it.
    #[error(
        "the state database {} is of version {found}, and this Criquet knows versions up to \
         {known}; install the newer Criquet again, or move the file away to begin without pods \
         and images",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest one that is known here.
        known: u32,
    },
    /// Another program has written it.
    #[error("{} is the database of another program; name another root", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// There is no room for something new.
    #[error("the disk of the state database {} is full; make room on it", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// A statement failed.
    #[error("cannot {operation} {collection}/{key} in the state database")]
    Access {
        /// `read`, `write`, `delete` or `list`.
        operation: &'static str,
        /// The collection.
        collection: String,
        /// The record's key; empty for the whole collection.
        key: String,
        /// What SQLite says.
        source: Box<rusqlite::Error>,
    },
    /// A record cannot be written as JSON.
    #[error("record {collection}/{key} of the state database cannot be written as JSON")]
    Record {
        /// The collection.
        collection: String,
        /// The record's key.
        key: String,
        /// What the writer says.
        source: serde_json::Error,
    },
    /// The thread of the database is gone.
    #[error("the thread of the state database has ended; restart the daemon")]
    Ended,
}

impl Error {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Open { source, .. } | Error::Access { source, .. } => {
                match source.sqlite_error_code() {
                    Some(rusqlite::ErrorCode::DiskFull) => Kind::ResourceExhausted,
                    Some(rusqlite::ErrorCode::ReadOnly) => Kind::FailedPrecondition,
                    Some(
                        rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked,
                    ) => Kind::Unavailable,
                    _ => Kind::Internal,
                }
            }
            Error::File { source, .. } => Kind::of_io(source),
            Error::Full { .. } => Kind::ResourceExhausted,
            Error::Newer { .. } | Error::Foreign { .. } => Kind::FailedPrecondition,
            Error::Record { .. } | Error::Ended => Kind::Internal,
        }
    }
}
