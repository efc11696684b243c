//! The thread that owns the connection: one write after the other, in the order in which they
//! were asked for, however long the disk takes. Whoever asks waits for an answer and not for
//! the disk.
//!
//! What is so whether or not it can be stored is owed until the disk takes it: reads see it at
//! once, and it is tried again with a pause that grows.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use tracing::{info, warn};

use super::{
    Batch, Durability, Error,
    batch::Change,
    file::{self, Look, Row, Rows},
    reserve::{self, Reserve},
};

/// Takes an answer to whoever asked.
pub(super) type Answer<T> = Box<dyn FnOnce(T) + Send>;

/// What the thread is asked for.
pub(super) enum Request {
    /// All changes or none; the answer says whether they are stored.
    Commit(Batch, Answer<Result<(), Error>>),
    /// Facts, kept until they are stored; the answer says whether they are.
    Observe(Batch, Answer<Result<(), Error>>),
    /// One record.
    Get(&'static str, String, Answer<Result<Option<Vec<u8>>, Error>>),
    /// All records of a collection, by key.
    List(&'static str, Answer<Result<Vec<Row>, Error>>),
}

/// The first pause before facts are tried again; it doubles up to the second.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(10)];
/// Commits between two looks at the size of the files.
const LOOK_AFTER: u32 = 128;
/// Pages that are free before some of them are given back to the disk.
const FREE_PAGES: i64 = 256;

pub(super) struct Store {
    connection: Connection,
    path: PathBuf,
    durability: Durability,
    reserve: Reserve,
    /// What was read when the file was looked at, for those who list it first.
    read: Rows,
    /// Facts that are not stored yet.
    owed: BTreeMap<(&'static str, String), Option<Vec<u8>>>,
    retry: Option<(Instant, Duration)>,
    commits: u32,
}

impl Store {
    pub(super) fn open(path: &Path, durability: Durability, look: Look) -> Result<Self, Error> {
        let (connection, read) = file::open(path, durability, look)?;
        let reserve = Reserve::open(path);
        reserve.fill();
        Ok(Self::over(connection, path, durability, reserve, read))
    }

    /// The same of a file that is only read.
    pub(super) fn open_to_read(path: &Path) -> Result<Self, Error> {
        let connection = file::open_to_read(path)?;
        Ok(Self::over(connection, path, Durability::Process, Reserve::none(), Rows::new()))
    }

    fn over(
        connection: Connection,
        path: &Path,
        durability: Durability,
        reserve: Reserve,
        read: Rows,
    ) -> Self {
        let (path, owed, retry) = (path.to_owned(), BTreeMap::new(), None);
        Self { connection, path, durability, reserve, read, owed, retry, commits: 0 }
    }

    /// Serves until nobody can ask any more. The connection is not closed then, so that the
    /// log of writes stays with its space: the next daemon may begin on a full disk.
    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        loop {
            let request = match self.retry {
                None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some((at, _)) => {
                    requests.recv_timeout(at.saturating_duration_since(Instant::now()))
                }
            };
            match request {
                Ok(request) => self.serve(request),
                Err(RecvTimeoutError::Timeout) => self.pay(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if !self.owed.is_empty() {
            self.pay();
        }
        std::mem::forget(self.connection);
    }

    fn serve(&mut self, request: Request) {
        match request {
            Request::Commit(batch, answer) => {
                self.read.clear();
                answer(self.commit(batch));
            }
            Request::Observe(batch, answer) => {
                self.read.clear();
                answer(self.observe(batch));
            }
            Request::Get(collection, key, answer) => answer(self.get(collection, key)),
            Request::List(collection, answer) => answer(self.list(collection)),
        }
    }

    fn commit(&mut self, batch: Batch) -> Result<(), Error> {
        // What is kept in reserve is for what makes room.
        let is_new = |change: &Change| change.body.is_some();
        let is_growth = !batch.changes.is_empty() && batch.changes.iter().all(is_new);
        if is_growth && reserve::is_full(&self.path) {
            return Err(Error::Full { path: self.path.clone() });
        }
        write(&mut self.connection, &batch.changes)?;
        for change in batch.changes {
            self.owed.remove(&(change.collection, change.key));
        }
        self.look_after();
        Ok(())
    }

    fn observe(&mut self, batch: Batch) -> Result<(), Error> {
        let error = write(&mut self.connection, &batch.changes).err();
        for Change { collection, key, body } in batch.changes {
            match error {
                None => drop(self.owed.remove(&(collection, key))),
                Some(_) => drop(self.owed.insert((collection, key), body)),
            }
        }
        match error {
            None => {
                self.look_after();
                Ok(())
            }
            Some(error) => {
                if self.retry.is_none() {
                    warn!(error = %crate::kind::chain(&error),
                        "the state database takes no writes; what happens is kept in memory \
                         until it does");
                    self.retry = Some((Instant::now() + PAUSES[0], PAUSES[0]));
                }
                Err(error)
            }
        }
    }

    /// Tries again what is owed.
    fn pay(&mut self) {
        self.open_for_writing();
        let changes: Vec<Change> = self
            .owed
            .iter()
            .map(|((collection, key), body)| Change {
                collection,
                key: key.clone(),
                body: body.clone(),
            })
            .collect();
        match write(&mut self.connection, &changes) {
            Ok(()) => {
                info!(records = changes.len(), "the state database takes writes again");
                self.owed.clear();
                self.retry = None;
                self.reserve.fill();
            }
            Err(_) => {
                let pause = self.retry.map_or(PAUSES[0], |(_, pause)| pause * 2).min(PAUSES[1]);
                self.retry = Some((Instant::now() + pause, pause));
            }
        }
    }

    /// A connection that was opened while the disk could only be read stays so.
    fn open_for_writing(&mut self) {
        let reads_only = self.connection.is_readonly("main").unwrap_or(false);
        if reads_only
            && let Ok((connection, _)) = file::open(&self.path, self.durability, Look::Briefly)
        {
            self.connection = connection;
        }
    }

    fn get(&self, collection: &'static str, key: String) -> Result<Option<Vec<u8>>, Error> {
        if let Some(body) = self.owed.get(&(collection, key.clone())) {
            return Ok(body.clone());
        }
        self.connection
            .prepare_cached("SELECT body FROM records WHERE collection = ?1 AND key = ?2")
            .and_then(|mut s| s.query_row(params![collection, key], |row| row.get(0)).optional())
            .map_err(|source| failed("read", collection, &key, source))
    }

    fn list(&mut self, collection: &'static str) -> Result<Vec<Row>, Error> {
        if let Some(rows) = self.read.remove(collection) {
            return Ok(rows);
        }
        let rows: Result<Vec<Row>, _> = self
            .connection
            .prepare_cached("SELECT key, body FROM records WHERE collection = ?1 ORDER BY key")
            .and_then(|mut s| {
                s.query_map(params![collection], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            });
        let rows = rows.map_err(|source| failed("list", collection, "", source))?;
        let owed = self.owed.iter().filter(|((of, _), _)| *of == collection);
        let mut owed = owed.map(|((_, key), body)| (key.clone(), body.clone())).peekable();
        if owed.peek().is_none() {
            return Ok(rows);
        }
        let mut rows: BTreeMap<String, Vec<u8>> = rows.into_iter().collect();
        for (key, body) in owed {
            match body {
                Some(body) => drop(rows.insert(key, body)),
                None => drop(rows.remove(&key)),
            }
        }
        Ok(rows.into_iter().collect())
    }

    /// Keeps the reserve filled, and the file as small as what is in it.
    fn look_after(&mut self) {
        self.commits += 1;
        if self.commits < LOOK_AFTER {
            return;
        }
        self.commits = 0;
        self.reserve.fill();
        let free = self.connection.pragma_query_value(None, "freelist_count", |row| row.get(0));
        if free.is_ok_and(|free: i64| free > FREE_PAGES) {
            // A file that does not shrink works as well.
            let _ = self.give_back();
        }
    }

    /// Gives free pages back to the disk: one for each row that the statement is asked for.
    fn give_back(&self) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare_cached("PRAGMA incremental_vacuum(512)")?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }
}

/// Makes all changes in one transaction.
fn write(connection: &mut Connection, changes: &[Change]) -> Result<(), Error> {
    let Some(first) = changes.first() else { return Ok(()) };
    let at_first = |source| failed("write", first.collection, &first.key, source);
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(at_first)?;
    for Change { collection, key, body } in changes {
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
        result.map_err(|source| failed(operation, collection, key, source))?;
    }
    transaction.commit().map_err(at_first)
}

fn failed(operation: &'static str, collection: &str, key: &str, source: rusqlite::Error) -> Error {
    Error::Access {
        operation,
        collection: collection.to_owned(),
        key: key.to_owned(),
        source: Box::new(source),
    }
}
