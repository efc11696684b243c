//! One file: its keys with their places, and all that is wrong with them.

use std::path::Path;

use serde::{Deserialize, de::IntoDeserializer};
use toml::{
    Spanned, Table, Value,
    de::{DeString, DeTable, DeValue},
};

use super::{
    Config,
    error::{Place, Problem},
};

/// A key that a file sets.
#[derive(Debug)]
pub(super) struct Setting {
    /// The keys of its table and its own.
    pub path: Vec<String>,
    /// Its value, of the right type.
    pub value: Value,
    /// Where the value stands.
    pub place: Place,
}

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// What can be used.
    pub settings: Vec<Setting>,
    /// What cannot.
    pub problems: Vec<Problem>,
}

/// Reads the text of a file. `known` is a configuration that has every key.
pub(super) fn parse(file: &Path, text: &str, known: &Table) -> Contents {
    let mut reader = Reader { file, text, known, contents: Contents::default() };
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        reader.table(&mut Vec::new(), known, table.into_inner());
    }
    for error in errors {
        let place = reader.place(error.span().map_or(0, |span| span.start));
        reader.problem(place, &[], error.message().to_owned());
    }
    reader.contents
}

struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    known: &'a Table,
    contents: Contents,
}

impl Reader<'_> {
    fn place(&self, offset: usize) -> Place {
        Place::of(self.file, self.text, offset)
    }

    fn problem(&mut self, place: Place, path: &[String], reason: String) {
        let problem = Problem { place: Some(place), key: path.join("."), reason };
        self.contents.problems.push(problem);
    }

    fn table(&mut self, path: &mut Vec<String>, known: &Table, table: DeTable<'_>) {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            self.entry(path, known, &key, value);
            path.pop();
        }
    }

    fn entry(
        &mut self,
        path: &mut Vec<String>,
        known: &Table,
        key: &Spanned<DeString<'_>>,
        value: Spanned<DeValue<'_>>,
    ) {
        let place = self.place(key.span().start);
        let value_place = self.place(value.span().start);
        let expected = known.get(key.get_ref().as_ref());
        match (expected, value.get_ref()) {
            (None, _) => {
                let reason = unknown(self.known, known, key.get_ref());
                self.problem(place, path, reason);
            }
            (Some(Value::Table(known)), DeValue::Table(_)) => {
                if let DeValue::Table(table) = value.into_inner() {
                    self.table(path, known, table);
                }
            }
            (Some(Value::Table(_)), _) => {
                let reason = format!("is a table; write its keys below [{}]", path.join("."));
                self.problem(place, path, reason);
            }
            (Some(_), _) => self.setting(path, value_place, value),
        }
    }

    /// A value is tried as the only one of a configuration, so that each is judged by itself.
    fn setting(&mut self, path: &[String], place: Place, value: Spanned<DeValue<'_>>) {
        let value = Value::deserialize(value.into_deserializer());
        let tried = value.and_then(|value| {
            let mut table = Table::new();
            insert(&mut table, path, value.clone());
            Config::deserialize(table).map(|_| value)
        });
        match tried {
            Ok(value) => {
                self.contents.settings.push(Setting { path: path.to_owned(), value, place })
            }
            Err(error) => self.problem(place, path, error.message().to_owned()),
        }
    }
}

/// Sets a key, with the tables that lead to it.
pub(super) fn insert(table: &mut Table, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return;
    }
    let inner = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(inner) = inner {
        insert(inner, rest, value);
    }
}

/// Says what a key that does not exist was probably meant to be.
fn unknown(all: &Table, known: &Table, key: &str) -> String {
    let table = all.iter().find(|(_, value)| value.as_table().is_some_and(|t| t.contains_key(key)));
    if let Some((table, _)) = table {
        return format!("is not known here; it belongs below [{table}]");
    }
    if all.contains_key(key) {
        return "is not known here; it belongs above all tables".to_owned();
    }
    let names: Vec<&str> = known.keys().map(String::as_str).collect();
    let nearest = names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(name, key), *name))
        .min()
        .filter(|(distance, name)| *distance <= name.len().div_ceil(3));
    let hint = nearest.map(|(_, name)| format!("; did you mean {name}?")).unwrap_or_default();
    format!("is not known{hint} (there is {})", names.join(", "))
}
