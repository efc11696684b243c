//! Changes of records.

use serde::Serialize;

use super::Error;

/// Changes that are made together or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) changes: Vec<Change>,
}

/// One change: a new body, or none for a record that goes.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub collection: &'static str,
    pub key: String,
    pub body: Option<Vec<u8>>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a record.
    ///
    /// # Errors
    /// A record that cannot be written as JSON.
    pub fn put<T: Serialize>(
        &mut self,
        collection: &'static str,
        key: &str,
        record: &T,
    ) -> Result<(), Error> {
        let body = serde_json::to_vec(record).map_err(|source| Error::Record {
            collection: collection.to_owned(),
            key: key.to_owned(),
            source,
        })?;
        self.changes.push(Change { collection, key: key.to_owned(), body: Some(body) });
        Ok(())
    }

    /// Removes a record, if it is there.
    pub fn delete(&mut self, collection: &'static str, key: &str) {
        self.changes.push(Change { collection, key: key.to_owned(), body: None });
    }

    /// A batch of one record that is added or replaced.
    ///
    /// # Errors
    /// A record that cannot be written as JSON.
    pub fn of<T: Serialize>(
        collection: &'static str,
        key: &str,
        record: &T,
    ) -> Result<Self, Error> {
        let mut batch = Self::new();
        batch.put(collection, key, record)?;
        Ok(batch)
    }

    /// A batch of one record that goes.
    pub fn without(collection: &'static str, key: &str) -> Self {
        let mut batch = Self::new();
        batch.delete(collection, key);
        batch
    }
}
