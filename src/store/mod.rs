//! Durable state: one SQLite database of named collections of JSON records.
//!
//! Entry point: `Database::open`. The module does not know what the records mean; their
//! types belong to the modules that keep them. A thread of its own writes, so that a disk that
//! does not answer holds up those who need it and nobody else.
//!
//! There are two kinds of writes. What is about to be made is *committed*: where that fails,
//! it is not made. What has happened is *observed*: it is so whether or not the disk takes it,
//! and is stored as soon as it does.

mod batch;
mod deferred;
mod error;
mod file;
mod reserve;
#[cfg(test)]
mod tests;
mod thread;

use std::{path::Path, sync::mpsc};

use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::oneshot;

pub use batch::Batch;
pub use deferred::Deferred;
pub use error::Error;

use file::{Look, Row};
use thread::{Answer, Request, Store};

/// Records that are worth a thread of their own to decode.
const MANY: usize = 1000;
/// Threads that decode, at the most.
const MAX_DECODERS: usize = 4;

/// Where records go that do not parse: nobody reads them but a person.
pub const BROKEN: &str = "broken";

/// How far a commit has reached when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Survives the death of the process; a power cut may lose the newest commits, never
    /// the order of them (`synchronous=NORMAL` with a write-ahead log).
    Process,
    /// Survives a power cut (`synchronous=FULL`).
    Power,
}

/// The database; several threads may share one.
///
/// The methods that are not `async` wait for the disk and must not be called on a thread that
/// serves others; a debug build panics there.
#[derive(Debug)]
pub struct Database {
    requests: mpsc::Sender<Request>,
}

/// Brings the outcome of a write.
#[derive(Debug)]
#[must_use = "a write that is not waited for may still be under way"]
pub struct Outcome(oneshot::Receiver<Result<(), Error>>);

impl Outcome {
    /// Waits for it.
    ///
    /// # Errors
    /// Why the write was not made.
    pub async fn known(self) -> Result<(), Error> {
        self.0.await.unwrap_or(Err(Error::Ended))
    }

    /// Goes on without it.
    pub fn later(self) {}
}

impl Database {
    /// Opens the database file, making it where it is absent, and mending what is damaged.
    /// Waits for the disk.
    ///
    /// # Errors
    /// A file that cannot be used, or that a newer Criquet or another program wrote.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, Error> {
        Self::start(Store::open(path, durability, Look::Wholly)?, path)
    }

    /// The same of a file that this process has open already, for writes of another
    /// durability.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub fn open_again(path: &Path, durability: Durability) -> Result<Self, Error> {
        Self::start(Store::open(path, durability, Look::Briefly)?, path)
    }

    /// Opens the file of a daemon that does not run, and changes nothing of it. Waits for the
    /// disk.
    ///
    /// # Errors
    /// A file that is not there, that is no database of Criquet's, or that is damaged.
    pub fn open_to_read(path: &Path) -> Result<Self, Error> {
        Self::start(Store::open_to_read(path)?, path)
    }

    fn start(store: Store, path: &Path) -> Result<Self, Error> {
        let (requests, receiver) = mpsc::channel();
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || store.run(&receiver))
            .map_err(|source| Error::File {
                operation: "start the thread of",
                path: path.to_owned(),
                source,
            })?;
        Ok(Self { requests })
    }

    /// Makes all changes of the batch, or none.
    pub fn submit(&self, batch: Batch) -> Outcome {
        Outcome(self.ask(|answer| Request::Commit(batch, answer)))
    }

    /// Takes down what has happened. Its outcome tells whether it is stored already; where it
    /// is not, it is tried again until it is.
    pub fn observe(&self, batch: Batch) -> Outcome {
        Outcome(self.ask(|answer| Request::Observe(batch, answer)))
    }

    /// Waits until everything that was asked for before has been tried.
    pub async fn settled(&self) {
        // The order of requests is the order of answers.
        let _ = self.observe(Batch::new()).known().await;
    }

    /// Makes all changes of the batch, or none. Waits for the disk.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn commit(&self, batch: Batch) -> Result<(), Error> {
        self.wait(|answer| Request::Commit(batch, answer))
    }

    /// Adds or replaces one record. Waits for the disk.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn put<T: Serialize>(
        &self,
        collection: &'static str,
        key: &str,
        record: &T,
    ) -> Result<(), Error> {
        self.commit(Batch::of(collection, key, record)?)
    }

    /// Removes one record, if it is there. Waits for the disk.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn delete(&self, collection: &'static str, key: &str) -> Result<(), Error> {
        self.commit(Batch::without(collection, key))
    }

    /// One record. One that does not parse is put aside, and is absent. Waits for the disk.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn get<T: DeserializeOwned>(
        &self,
        collection: &'static str,
        key: &str,
    ) -> Result<Option<T>, Error> {
        let body = self.wait(|answer| Request::Get(collection, key.to_owned(), answer))?;
        Ok(body.and_then(|body| self.decode(collection, (key.to_owned(), body))).map(|(_, t)| t))
    }

    /// All records of a collection, in the order of their keys. Those that do not parse are
    /// put aside. Waits for the disk.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn list<T: DeserializeOwned + Send>(
        &self,
        collection: &'static str,
    ) -> Result<Vec<(String, T)>, Error> {
        let rows = self.wait(|answer| Request::List(collection, answer))?;
        Ok(self.decode_all(collection, rows))
    }

    /// The same as [`Database::get`], for those who must not wait for the disk.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn find<T: DeserializeOwned>(
        &self,
        collection: &'static str,
        key: &str,
    ) -> Result<Option<T>, Error> {
        let body = self.ask(|answer| Request::Get(collection, key.to_owned(), answer)).await;
        let body = body.unwrap_or(Err(Error::Ended))?;
        Ok(body.and_then(|body| self.decode(collection, (key.to_owned(), body))).map(|(_, t)| t))
    }

    /// The same as [`Database::list`], for those who must not wait for the disk.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn find_all<T: DeserializeOwned>(
        &self,
        collection: &'static str,
    ) -> Result<Vec<(String, T)>, Error> {
        let rows = self.ask(|answer| Request::List(collection, answer)).await;
        let rows = rows.unwrap_or(Err(Error::Ended))?;
        Ok(rows.into_iter().filter_map(|row| self.decode(collection, row)).collect())
    }

    /// Decodes thousands of records on several processors: a daemon that starts is waited for.
    fn decode_all<T: DeserializeOwned + Send>(
        &self,
        collection: &'static str,
        mut rows: Vec<Row>,
    ) -> Vec<(String, T)> {
        let some = |rows: Vec<Row>| -> Vec<(String, T)> {
            rows.into_iter().filter_map(|row| self.decode(collection, row)).collect()
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.min(MAX_DECODERS).min(rows.len() / MANY).max(1);
        let share = rows.len().div_ceil(threads);
        std::thread::scope(|scope| {
            let mut others = Vec::new();
            for number in (1..threads).rev() {
                let share = rows.split_off(number * share);
                others.push(scope.spawn(move || some(share)));
            }
            let mut decoded = some(rows);
            for other in others.into_iter().rev() {
                match other.join() {
                    Ok(records) => decoded.extend(records),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            decoded
        })
    }

    /// One bad record is one bad record: it is told, kept for whoever wants to look at it, and
    /// stands in nobody's way.
    fn decode<T: DeserializeOwned>(
        &self,
        collection: &'static str,
        (key, body): Row,
    ) -> Option<(String, T)> {
        match serde_json::from_slice(&body) {
            Ok(record) => Some((key, record)),
            Err(error) => {
                tracing::error!(
                    collection, key, %error,
                    "a record of the state database does not parse and is put aside"
                );
                let mut batch = Batch::without(collection, &key);
                let text = String::from_utf8_lossy(&body);
                if batch.put(BROKEN, &format!("{collection}/{key}"), &text).is_ok() {
                    self.observe(batch).later();
                }
                None
            }
        }
    }

    fn ask<T: Send + 'static>(
        &self,
        request: impl FnOnce(Answer<T>) -> Request,
    ) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        // Who asked may be gone; without the thread the answer is dropped, which says the same.
        let answer = Box::new(|value| drop(sender.send(value)));
        let _ = self.requests.send(request(answer));
        receiver
    }

    fn wait<T: Send + 'static>(
        &self,
        request: impl FnOnce(Answer<Result<T, Error>>) -> Request,
    ) -> Result<T, Error> {
        #[cfg(debug_assertions)]
        panic_where_others_are_served();
        let (sender, receiver) = mpsc::sync_channel(1);
        let answer = Box::new(move |value| drop(sender.send(value)));
        let _ = self.requests.send(request(answer));
        receiver.recv().unwrap_or(Err(Error::Ended))
    }
}

#[cfg(debug_assertions)]
fn panic_where_others_are_served() {
    let (sender, receiver) = oneshot::channel();
    let _ = sender.send(());
    // Panics on a thread of the runtime that is not meant to block.
    let _ = receiver.blocking_recv();
}
