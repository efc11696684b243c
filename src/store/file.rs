//! The database file: opened, looked at, carried over from an older version, and mended where
//! the disk has broken it.
//!
//! `user_version` of the file is the version of the records in it. A newer one is refused, an
//! older one is carried over in one transaction, after a copy was put beside it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, params};
use tracing::{error, info, warn};

use super::{Durability, Error};

/// Key and body of a record.
pub(super) type Row = (String, Vec<u8>);

/// Records by collection, in the order of their keys.
pub(super) type Rows = BTreeMap<String, Vec<Row>>;

/// The version of records that this Criquet writes.
pub(super) const VERSION: u32 = 1;

/// Bytes of a page of a new file. A record that takes more than a quarter of one has pages of
/// its own, which most records of containers would have with the 4096 of SQLite's default (file
/// format, "Cell Payload Overflow Pages"): more to read, and three times the space.
const PAGE: u32 = 8192;

/// Bytes in the log of writes after which it begins anew, in place.
const LOG: u32 = 4 << 20;

/// What says that a file is Criquet's (`application_id` of SQLite): "Cqst".
const APPLICATION: u32 = 0x4371_7374;

/// How long another process's lock is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// What a version changes about the records of the one before it.
type Step = fn(&Transaction<'_>) -> rusqlite::Result<()>;

/// From version n to n + 1, by n.
const STEPS: [Step; VERSION as usize] = [
    // Records of Criquet 0.1 had no version and are otherwise the same.
    |_| Ok(()),
];

/// How a file is looked at before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Everything in it is read, so that damage is found and mended now.
    Wholly,
    /// Whether it is Criquet's, and of which version.
    Briefly,
}

/// Opens the database, making it where it is absent; also what was read of it meanwhile.
pub(super) fn open(
    path: &Path,
    durability: Durability,
    look: Look,
) -> Result<(Connection, Rows), Error> {
    match prepare(path, durability, look) {
        Err(Error::Open { source, .. }) if is_damaged(&source) => {
            mend(path)?;
            prepare(path, durability, look)
        }
        Err(Error::Open { source, .. }) if is_read_only(&source) => {
            Ok((open_for_reading(path, source)?, Rows::new()))
        }
        result => result,
    }
}

fn prepare(path: &Path, durability: Durability, look: Look) -> Result<(Connection, Rows), Error> {
    let failed = |source| Error::Open { path: path.to_owned(), source: Box::new(source) };
    let mut connection = Connection::open(path).map_err(failed)?;
    connection.busy_timeout(LOCK_PATIENCE).map_err(failed)?;
    let (found, tables) = look_at(path, &connection)?;
    let mut read = Rows::new();
    if tables && look == Look::Wholly {
        read = read_everything(&connection).map_err(failed)?;
    }
    if tables && found < VERSION {
        read.clear();
        carry_over(path, &mut connection, found)?;
    }
    let synchronous = match durability {
        Durability::Process => "NORMAL",
        Durability::Power => "FULL",
    };
    connection
        .execute_batch(&format!(
            "PRAGMA page_size={PAGE}; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL;
             PRAGMA synchronous={synchronous};
             CREATE TABLE IF NOT EXISTS records (
                 collection TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL,
                 PRIMARY KEY (collection, key)) WITHOUT ROWID;"
        ))
        .map_err(failed)?;
    let page = connection.pragma_query_value(None, "page_size", |row| row.get::<_, u32>(0));
    let pages = LOG / page.map_err(failed)?.max(512);
    connection.pragma_update(None, "wal_autocheckpoint", pages).map_err(failed)?;
    if found < VERSION {
        // Only where it changes something: a write needs a disk that takes it.
        let marks = format!(
            "BEGIN IMMEDIATE; PRAGMA application_id={APPLICATION}; PRAGMA user_version={VERSION};
             COMMIT;"
        );
        connection.execute_batch(&marks).map_err(failed)?;
    }
    Ok((connection, read))
}

/// The version of a database, and whether it has tables.
fn look_at(path: &Path, connection: &Connection) -> Result<(u32, bool), Error> {
    let failed = |source| Error::Open { path: path.to_owned(), source: Box::new(source) };
    let number = |name: &str| {
        let value = connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        value.map(|value| u32::try_from(value).unwrap_or(u32::MAX)).map_err(failed)
    };
    let (application, found) = (number("application_id")?, number("user_version")?);
    let known = "SELECT count(*) FROM sqlite_schema WHERE name = 'records'";
    let others = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name != 'records'";
    let count =
        |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0)).map_err(failed);
    let (known, others) = (count(known)? > 0, count(others)? > 0);
    if application != 0 && application != APPLICATION || application == 0 && !known && others {
        return Err(Error::Foreign { path: path.to_owned() });
    }
    if found > VERSION {
        return Err(Error::Newer { path: path.to_owned(), found, known: VERSION });
    }
    Ok((found, known))
}

/// Only reading a body follows it to the pages that it overflows into.
fn read_everything(connection: &Connection) -> rusqlite::Result<Rows> {
    let query = "SELECT collection, key, body FROM records ORDER BY collection, key";
    let mut statement = connection.prepare(query)?;
    let mut rows = statement.query([])?;
    let mut read = Rows::new();
    let mut current: (String, Vec<Row>) = Default::default();
    while let Some(row) = rows.next()? {
        if row.get_ref(0)?.as_bytes()? != current.0.as_bytes() {
            let (collection, rows) = std::mem::replace(&mut current, (row.get(0)?, Vec::new()));
            read.insert(collection, rows);
        }
        current.1.push((row.get(1)?, row.get(2)?));
    }
    read.insert(current.0, current.1);
    Ok(read)
}

/// Changes the records of an older version, after a copy of the file was made.
fn carry_over(path: &Path, connection: &mut Connection, found: u32) -> Result<(), Error> {
    let failed = |source| Error::Open { path: path.to_owned(), source: Box::new(source) };
    let copy = beside(path, &format!("v{found}"));
    match fs::remove_file(&copy) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(Error::File { operation: "replace the copy", path: copy, source });
        }
        _ => {}
    }
    connection.execute("VACUUM INTO ?1", [copy.to_string_lossy()]).map_err(failed)?;
    let transaction = connection.transaction().map_err(failed)?;
    for step in STEPS.iter().skip(found as usize) {
        step(&transaction).map_err(failed)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION).map_err(failed)?;
    transaction.pragma_update(None, "user_version", VERSION).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    info!(from = found, to = VERSION, copy = %copy.display(), "the state database is carried over");
    Ok(())
}

fn is_damaged(source: &rusqlite::Error) -> bool {
    matches!(source.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn is_read_only(source: &rusqlite::Error) -> bool {
    matches!(
        source.sqlite_error_code(),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::SystemIoFailure)
    )
}

/// On a disk that takes no writes, what is known can still be read, and what happens is kept
/// in memory until the disk takes it.
fn open_for_reading(path: &Path, source: Box<rusqlite::Error>) -> Result<Connection, Error> {
    let given_up = Error::Open { path: path.to_owned(), source };
    let Ok(connection) = connect_to_read(path) else { return Err(given_up) };
    match look_at(path, &connection) {
        Ok((_, true)) => {
            warn!(path = %path.display(), "the state database can only be read");
            Ok(connection)
        }
        Ok(_) => Err(given_up),
        Err(error) => Err(error),
    }
}

/// Opens the database as it is, for one who only looks at it.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, Error> {
    let failed = |source| Error::Open { path: path.to_owned(), source: Box::new(source) };
    let connection = connect_to_read(path).map_err(failed)?;
    connection.busy_timeout(LOCK_PATIENCE).map_err(failed)?;
    match look_at(path, &connection)? {
        (_, true) => Ok(connection),
        _ => Err(Error::Foreign { path: path.to_owned() }),
    }
}

fn connect_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags)
}

/// Puts a damaged database aside and begins a new one with what can be read of it. The new one
/// is whole before it takes the place of the damaged one.
fn mend(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Open { path: path.to_owned(), source: Box::new(source) };
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let (aside, new) = (beside(path, &format!("damaged-{seconds}")), beside(path, "mending"));
    // What an attempt left that was given up, on a full disk for one.
    let _ = fs::remove_file(&new);
    lengthen(path)?;
    let kept = salvage(path, &new).map_err(failed)?;
    for suffix in ["", "-wal", "-shm"] {
        rename(&with_suffix(path, suffix), &with_suffix(&aside, suffix))?;
    }
    rename(&new, path)?;
    error!(
        damaged = %aside.display(), kept,
        "the state database is damaged; what can be read of it is kept, pods that are not \
         known any more are ended, and images that are not known are pulled again"
    );
    Ok(())
}

/// What is not there has no name to change.
fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    match fs::rename(from, to) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::File { operation: "put aside", path: from.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// SQLite reads nothing of a file that is shorter than its header says (file format, "In-header
/// database size"). With zeros for what was cut off it reads the rest.
fn lengthen(path: &Path) -> Result<(), Error> {
    let file = File::options().read(true).write(true).open(path);
    let failed = |source| Error::File { operation: "read", path: path.to_owned(), source };
    let file = file.map_err(failed)?;
    let mut header = [0; 32];
    if file.read_exact_at(&mut header, 0).is_err() || !header.starts_with(b"SQLite format 3\0") {
        return Ok(());
    }
    let page = u64::from(u16::from_be_bytes([header[16], header[17]])).max(2);
    let pages = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
    // A damaged header may name any number; the file is sparse, and stays as it is otherwise.
    let wanted = (page * u64::from(pages)).min(1 << 32);
    match file.metadata() {
        Ok(metadata) if metadata.len() < wanted => file.set_len(wanted).map_err(failed),
        _ => Ok(()),
    }
}

/// Copies records from both ends up to where the damage is.
fn salvage(from: &Path, to: &Path) -> rusqlite::Result<i64> {
    let new = Connection::open(to)?;
    new.execute_batch(&format!(
        "PRAGMA page_size={PAGE}; PRAGMA auto_vacuum=INCREMENTAL;
         PRAGMA application_id={APPLICATION};
         PRAGMA user_version={VERSION};
         CREATE TABLE records (
             collection TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL,
             PRIMARY KEY (collection, key)) WITHOUT ROWID;"
    ))?;
    let old = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    for order in ["ASC", "DESC"] {
        let query = format!("SELECT * FROM records ORDER BY collection {order}, key {order}");
        let Ok(mut statement) = old.prepare(&query) else { continue };
        let Ok(mut rows) = statement.query([]) else { continue };
        while let Ok(Some(row)) = rows.next() {
            let (Ok(collection), Ok(key), Ok(body)) =
                (row.get::<_, String>(0), row.get::<_, String>(1), row.get::<_, Vec<u8>>(2))
            else {
                continue;
            };
            new.execute(
                "INSERT OR IGNORE INTO records VALUES (?1, ?2, ?3)",
                params![collection, key, body],
            )?;
        }
    }
    new.query_row("SELECT count(*) FROM records", [], |row| row.get(0))
}

fn beside(path: &Path, word: &str) -> PathBuf {
    with_suffix(path, &format!(".{word}"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
