use super::{Batch, Database, Durability, Error};

fn open(directory: &tempfile::TempDir) -> Database {
    Database::open(&directory.path().join("state.db"), Durability::Process).unwrap()
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
fn a_record_of_another_shape_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let database = open(&directory);
    database.put("pods", "a", &"text").unwrap();
    let error = database.get::<i32>("pods", "a").unwrap_err();
    assert!(matches!(&error, Error::Record { .. }));
    assert!(error.to_string().contains("pods/a"), "{error}");
}

#[test]
fn two_connections_share_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(&directory);
    let second = Database::open(&directory.path().join("state.db"), Durability::Power).unwrap();
    second.put("images", "x", &7).unwrap();
    assert_eq!(first.get::<i32>("images", "x").unwrap(), Some(7));
}
