//! Durable state: one SQLite database of named collections of JSON records.
//!
//! Entry point: `Database::open`. The module does not know what the records mean; their
//! types belong to the modules that keep them. Records are versioned by their own fields
//! (serde defaults), so that a newer daemon reads what an older one wrote.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::kind::Kind;

#[cfg(test)]
mod tests;

/// How far a commit has reached when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Survives the death of the process; a power cut may lose the newest commits, never
    /// the order of them (`synchronous=NORMAL` with a write-ahead log).
    Process,
    /// Survives a power cut (`synchronous=FULL`).
    Power,
}

/// A failure of the state database.
#[derive(Debug, Error)]
pub enum Error {
    /// The database file cannot be opened or prepared.
    #[error("cannot open the state database {}; if it is damaged, move it away and start anew", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: Box<rusqlite::Error>,
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
    /// A record is not what its reader expects.
    #[error("record {collection}/{key} of the state database does not parse")]
    Record {
        /// The collection.
        collection: String,
        /// The record's key.
        key: String,
        /// What the parser says.
        source: serde_json::Error,
    },
}

impl Error {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Open { source, .. } | Error::Access { source, .. } => {
                match source.sqlite_error_code() {
                    Some(rusqlite::ErrorCode::DiskFull) => Kind::ResourceExhausted,
                    Some(rusqlite::ErrorCode::ReadOnly) => Kind::FailedPrecondition,
                    _ => Kind::Internal,
                }
            }
            Error::Record { .. } => Kind::DataLoss,
        }
    }
}

/// The database. Calls block for tens of microseconds (for a disk write with
/// [`Durability::Power`]); several threads may share one.
#[derive(Debug)]
pub struct Database {
    // A short critical section: one statement or one small transaction.
    connection: Mutex<Connection>,
}

/// Changes that are made together or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    changes: Vec<Change>,
}

#[derive(Debug)]
struct Change {
    collection: &'static str,
    key: String,
    body: Option<Vec<u8>>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a record.
    pub fn put<T: Serialize>(
        &mut self,
        collection: &'static str,
        key: &str,
        record: &T,
    ) -> Result<(), Error> {
        let body = encode(collection, key, record)?;
        self.changes.push(Change { collection, key: key.to_owned(), body: Some(body) });
        Ok(())
    }

    /// Removes a record, if it is there.
    pub fn delete(&mut self, collection: &'static str, key: &str) {
        self.changes.push(Change { collection, key: key.to_owned(), body: None });
    }
}

impl Database {
    /// Opens the database file, making it where it is absent.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, Error> {
        let failed = |source| Error::Open { path: path.to_owned(), source: Box::new(source) };
        let connection = Connection::open(path).map_err(failed)?;
        connection.busy_timeout(Duration::from_secs(30)).map_err(failed)?;
        let synchronous = match durability {
            Durability::Process => "NORMAL",
            Durability::Power => "FULL",
        };
        connection
            .execute_batch(&format!(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous};
                 CREATE TABLE IF NOT EXISTS records (
                     collection TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL,
                     PRIMARY KEY (collection, key)) WITHOUT ROWID;"
            ))
            .map_err(failed)?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    /// Adds or replaces one record.
    pub fn put<T: Serialize>(
        &self,
        collection: &'static str,
        key: &str,
        record: &T,
    ) -> Result<(), Error> {
        let mut batch = Batch::new();
        batch.put(collection, key, record)?;
        self.commit(batch)
    }

    /// Removes one record, if it is there.
    pub fn delete(&self, collection: &'static str, key: &str) -> Result<(), Error> {
        let mut batch = Batch::new();
        batch.delete(collection, key);
        self.commit(batch)
    }

    /// Makes all changes of the batch, or none.
    pub fn commit(&self, batch: Batch) -> Result<(), Error> {
        let mut connection = self.lock();
        let failed = |operation, change: &Change, source| Error::Access {
            operation,
            collection: change.collection.to_owned(),
            key: change.key.clone(),
            source: Box::new(source),
        };
        let Some(first) = batch.changes.first() else { return Ok(()) };
        let transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(|e| failed("write", first, e))?;
        for change in &batch.changes {
            let Change { collection, key, body } = change;
            let (operation, result) = match body {
                Some(body) => (
                    "write",
                    transaction
                        .prepare_cached("INSERT OR REPLACE INTO records VALUES (?1, ?2, ?3)")
                        .and_then(|mut s| s.execute(params![collection, key, body])),
                ),
                None => (
                    "delete",
                    transaction
                        .prepare_cached("DELETE FROM records WHERE collection = ?1 AND key = ?2")
                        .and_then(|mut s| s.execute(params![collection, key])),
                ),
            };
            result.map_err(|e| failed(operation, change, e))?;
        }
        transaction.commit().map_err(|e| failed("write", first, e))
    }

    /// One record.
    pub fn get<T: DeserializeOwned>(
        &self,
        collection: &'static str,
        key: &str,
    ) -> Result<Option<T>, Error> {
        let body: Option<Vec<u8>> = self
            .lock()
            .prepare_cached("SELECT body FROM records WHERE collection = ?1 AND key = ?2")
            .and_then(|mut s| s.query_row(params![collection, key], |row| row.get(0)).optional())
            .map_err(|source| Error::Access {
                operation: "read",
                collection: collection.to_owned(),
                key: key.to_owned(),
                source: Box::new(source),
            })?;
        body.map(|body| decode(collection, key, &body)).transpose()
    }

    /// All records of a collection, in the order of their keys.
    pub fn list<T: DeserializeOwned>(
        &self,
        collection: &'static str,
    ) -> Result<Vec<(String, T)>, Error> {
        let rows: Vec<(String, Vec<u8>)> = self
            .lock()
            .prepare_cached("SELECT key, body FROM records WHERE collection = ?1 ORDER BY key")
            .and_then(|mut s| {
                s.query_map(params![collection], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            })
            .map_err(|source| Error::Access {
                operation: "list",
                collection: collection.to_owned(),
                key: String::new(),
                source: Box::new(source),
            })?;
        rows.into_iter()
            .map(|(key, body)| Ok((key.clone(), decode(collection, &key, &body)?)))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic cannot leave a transaction half made: it is rolled back when dropped.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encode<T: Serialize>(collection: &str, key: &str, record: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(record).map_err(|source| Error::Record {
        collection: collection.to_owned(),
        key: key.to_owned(),
        source,
    })
}

fn decode<T: DeserializeOwned>(collection: &str, key: &str, body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|source| Error::Record {
        collection: collection.to_owned(),
        key: key.to_owned(),
        source,
    })
}
