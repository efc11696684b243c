//! Parts of records that are read when they are first needed.

use std::{fmt, ops::Deref, sync::OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::value::RawValue;

/// A part of a record that stays the JSON that it is until somebody looks into it.
///
/// A node whose pods crash loop has many thousands of records of what has ended, and a daemon
/// that starts is waited for: it looks into few of them.
#[derive(Clone)]
pub struct Deferred<T> {
    /// None for what was not read from the database, or was changed since.
    text: Option<Box<RawValue>>,
    /// Elsewhere, since most that are read are never looked into.
    value: OnceLock<Box<T>>,
}

impl<T: DeserializeOwned + Default> Deferred<T> {
    /// Changes it.
    pub fn change(&mut self, change: impl FnOnce(&mut T)) {
        let mut value = self.value.take().unwrap_or_else(|| parse(self.text.as_deref()));
        change(&mut value);
        *self = Self { text: None, value: value.into() };
    }
}

impl<T> From<T> for Deferred<T> {
    fn from(value: T) -> Self {
        Self { text: None, value: Box::new(value).into() }
    }
}

impl<T: DeserializeOwned + Default> Deref for Deferred<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.get_or_init(|| parse(self.text.as_deref()))
    }
}

/// JSON that is no `T` counts as the default: the rest of the record says that something is
/// there, which can be removed.
fn parse<T: DeserializeOwned + Default>(text: Option<&RawValue>) -> Box<T> {
    let parsed = text.map(|text| serde_json::from_str(text.get())).transpose();
    parsed.map(Option::unwrap_or_default).unwrap_or_else(|error| {
        tracing::error!(%error, "a part of a record of the state database does not parse");
        Box::default()
    })
}

impl<T: Serialize + DeserializeOwned + Default> Serialize for Deferred<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.text {
            Some(text) => text.serialize(serializer),
            None => self.deref().serialize(serializer),
        }
    }
}

impl<'de, T> Deserialize<'de> for Deferred<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self { text: Some(text), value: OnceLock::new() })
    }
}

impl<T: fmt::Debug> fmt::Debug for Deferred<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.value.get(), &self.text) {
            (Some(value), _) => value.fmt(f),
            (None, text) => text.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::Deferred;

    #[derive(Serialize, Deserialize)]
    struct Record {
        id: u8,
        names: Deferred<Vec<String>>,
    }

    fn read(text: &str) -> Record {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn it_is_written_as_it_was_read() {
        // The spaces are none of ours.
        let text = r#"{"id":1,"names":["a",  "b"]}"#;
        let record = read(text);
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
        assert_eq!(*record.names, ["a", "b"]);
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
    }

    #[test]
    fn a_change_is_written() {
        let mut record = read(r#"{"id":1,"names":["a"]}"#);
        record.names.change(|names| names.push("b".to_owned()));
        assert_eq!(*record.names, ["a", "b"]);
        assert_eq!(serde_json::to_string(&record).unwrap(), r#"{"id":1,"names":["a","b"]}"#);
    }

    #[test]
    fn what_is_something_else_is_nothing() {
        let record = read(r#"{"id":7,"names":{"a":1}}"#);
        assert!(record.names.is_empty());
        assert_eq!(record.id, 7);
        assert!(serde_json::from_str::<Record>(r#"{"id":7,"names":["a"}"#).is_err(), "no JSON");
    }
}
