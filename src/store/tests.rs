use std::{fs, path::Path};

use rusqlite::Connection;

use super::{Batch, Database, Durability, Error};
use crate::kind::Kind;

fn open_at(path: &Path) -> Result<Database, Error> {
    Database::open(path, Durability::Process)
}

fn open(directory: &tempfile::TempDir) -> Database {
    open_at(&directory.path().join("state.db")).unwrap()
}

#[test]
fn records_survive_a_reopen() {
    let directory = tempfile::tempdir().unwrap();
    open(&directory).put("pods", "a", &vec![1, 2]).unwrap();
    let database = open(&directory);
    assert_eq!(database.get::<Vec<i32>>("pods", "a").unwrap(), Some(vec![1, 2]));
    assert_eq!(database.get::<Vec<i32>>("images", "a").unwrap(), None);
}

#[test]
fn a_batch_is_made_as_one() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory);
    database.put("pods", "old", &1).unwrap();
    let mut batch = Batch::new();
    batch.delete("pods", "old");
    batch.put("pods", "new", &2).unwrap();
    database.commit(batch).unwrap();
    assert_eq!(database.list::<i32>("pods").unwrap(), [("new".to_owned(), 2)]);
}

#[test]
fn a_record_of_another_shape_is_put_aside() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory);
    database.put("pods", "bad", &"text").unwrap();
    database.put("pods", "good", &7).unwrap();
    assert_eq!(database.list::<i32>("pods").unwrap(), [("good".to_owned(), 7)]);
    let aside = database.list::<String>("broken").unwrap();
    assert_eq!(aside, [("pods/bad".to_owned(), "\"text\"".to_owned())]);
    assert_eq!(database.get::<String>("pods", "bad").unwrap(), None, "it is there no more");
}

#[test]
fn two_connections_share_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(&directory);
    let second = Database::open(&directory.path().join("state.db"), Durability::Power).unwrap();
    second.put("images", "x", &7).unwrap();
    assert_eq!(first.get::<i32>("images", "x").unwrap(), Some(7));
}

/// A database as another Criquet, or somebody else, has left it.
fn made_with(directory: &tempfile::TempDir, statements: &str) -> std::path::PathBuf {
    let path = directory.path().join("state.db");
    Connection::open(&path).unwrap().execute_batch(statements).unwrap();
    path
}

const TABLE: &str = "CREATE TABLE records (collection TEXT NOT NULL, key TEXT NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY (collection, key)) WITHOUT ROWID;
    INSERT INTO records VALUES ('pods', 'a', CAST('1' AS BLOB));";

#[test]
fn a_database_of_the_release_before_is_carried_over_with_a_copy() {
    let directory = tempfile::tempdir().unwrap();
    let path = made_with(&directory, TABLE);
    let database = open_at(&path).unwrap();
    assert_eq!(database.get::<i32>("pods", "a").unwrap(), Some(1));
    let version = |path: &Path| -> u32 {
        let connection = Connection::open(path).unwrap();
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    };
    assert_eq!(version(&path), super::file::VERSION);
    assert_eq!(version(&directory.path().join("state.db.v0")), 0);
}

#[test]
fn a_database_of_the_future_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = made_with(&directory, &format!("{TABLE} PRAGMA user_version=99;"));
    let before = fs::read(&path).unwrap();
    let error = open_at(&path).unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition);
    assert!(error.to_string().contains("install the newer Criquet"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn the_database_of_another_program_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = made_with(&directory, "CREATE TABLE cats (name TEXT);");
    assert!(matches!(open_at(&path), Err(Error::Foreign { .. })));
    let directory = tempfile::tempdir().unwrap();
    let path = made_with(&directory, &format!("{TABLE} PRAGMA application_id=7;"));
    assert!(matches!(open_at(&path), Err(Error::Foreign { .. })));
}

#[test]
fn of_a_damaged_database_is_kept_what_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    {
        let connection = Connection::open(made_with(&directory, TABLE)).unwrap();
        for index in 0..200 {
            let row = (format!("{index:04}"), serde_json::to_vec(&"x".repeat(2000)).unwrap());
            connection.execute("INSERT INTO records VALUES ('pods', ?1, ?2)", row).unwrap();
        }
    }
    let length = fs::metadata(&path).unwrap().len();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(length / 2 / 4096 * 4096).unwrap();
    let database = open_at(&path).unwrap();
    let kept = database.list::<String>("pods").unwrap().len();
    assert!((1..200).contains(&kept), "{kept} of 200");
    database.put("pods", "new", &"y").unwrap();
    let aside = fs::read_dir(directory.path()).unwrap().flatten();
    let aside = aside.filter(|f| f.file_name().to_string_lossy().contains("damaged")).count();
    assert!(aside >= 1, "the damaged file stays for whoever wants to look");
}

#[test]
fn a_file_that_is_no_database_is_put_aside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    fs::write(&path, b"garbage".repeat(1000)).unwrap();
    let database = open_at(&path).unwrap();
    database.put("pods", "a", &1).unwrap();
    assert_eq!(database.get::<i32>("pods", "a").unwrap(), Some(1));
}

#[test]
fn what_has_happened_is_seen_while_it_cannot_be_stored_and_is_stored_later() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let database = open_at(&path).unwrap();
    database.put("pods", "gone", &1).unwrap();
    // Another process has the database for itself.
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut batch = Batch::without("pods", "gone");
    batch.put("pods", "ended", &2).unwrap();
    let outcome = runtime.block_on(database.observe(batch).known());
    assert_eq!(outcome.unwrap_err().kind(), Kind::Unavailable);
    let expected = [("ended".to_owned(), 2)];
    assert_eq!(database.list::<i32>("pods").unwrap(), expected);
    assert_eq!(database.get::<i32>("pods", "gone").unwrap(), None);
    other.execute_batch("ROLLBACK").unwrap();
    let stored = || -> i64 {
        let query = "SELECT count(*) FROM records WHERE key = 'ended'";
        other.query_row(query, [], |row| row.get(0)).unwrap()
    };
    // It is tried again by itself; asking is how this test sees it.
    while stored() == 0 {
        std::thread::yield_now();
    }
    assert_eq!(database.list::<i32>("pods").unwrap(), expected);
}

#[tokio::test]
#[should_panic = "Cannot block the current thread"]
#[cfg(debug_assertions)]
async fn a_thread_that_serves_others_must_not_wait_for_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let _ = open(&directory).put("pods", "a", &1);
}

#[test]
fn thousands_of_records_are_listed_in_their_order_as_they_are_now() {
    let directory = tempfile::tempdir().unwrap();
    let mut batch = Batch::new();
    for number in 0..5000_u32 {
        batch.put("pods", &format!("{number:05}"), &number).unwrap();
    }
    open(&directory).commit(batch).unwrap();
    let expected: Vec<(String, u32)> = (0..5000).map(|n| (format!("{n:05}"), n)).collect();
    let database = open(&directory);
    assert_eq!(database.list::<u32>("pods").unwrap(), expected, "as it was read at first");
    assert_eq!(database.list::<u32>("pods").unwrap(), expected, "and again");
    let database = open(&directory);
    database.put("pods", "00007", &70).unwrap();
    let listed = database.list::<u32>("pods").unwrap();
    assert_eq!(listed[7], ("00007".to_owned(), 70), "what was changed since the file was opened");
}

#[test]
fn the_file_shrinks_when_records_go() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let size = || fs::metadata(&path).unwrap().len();
    let database = open(&directory);
    let record = "x".repeat(2000);
    let mut batch = Batch::new();
    for number in 0..4000 {
        batch.put("pods", &number.to_string(), &record).unwrap();
    }
    database.commit(batch).unwrap();
    let full = size();
    assert!(full > 8_000_000, "{full}");
    for first in (0..4000).step_by(4) {
        let mut batch = Batch::new();
        (first..first + 4).for_each(|number| batch.delete("pods", &number.to_string()));
        database.commit(batch).unwrap();
    }
    // The next writes are in the file's log, and take it over when they begin it anew.
    for number in 0..400 {
        database.put("pods", "last", &number).unwrap();
    }
    assert!(size() < full / 4, "{} of {full}", size());
}
