//! What a manifest may say: each field that is understood, by its name and kind. All else is
//! refused with its path, before anything is made.
//!
//! The types of `k8s-openapi` know every field that Kubernetes has, and pass over all others;
//! what is in the tables of `fields` is what happens here.

use serde_json::Value;

use super::{Problem, quantity_is_sound};

/// What a field may be.
pub(super) enum Shape {
    Text,
    /// A whole number.
    Number,
    Flag,
    /// A whole number, or a name.
    Either,
    /// `500m`, `64Mi`.
    Quantity,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Names of the author's own choice.
    Map(&'static Shape),
    List(&'static Shape),
    Fields(&'static [(&'static str, &'static Shape)]),
    /// Nothing that changes what happens on one node: said once, as something passed over.
    PassedOver,
}

use Shape::{Either, Fields, Flag, List, Map, Number, PassedOver, Quantity, Text, Word};

impl Shape {
    /// Adds what is wrong with a value, and the paths of what is passed over.
    pub(super) fn check(
        &self,
        path: &str,
        value: &Value,
        problems: &mut Vec<Problem>,
        passed_over: &mut Vec<String>,
    ) {
        // A field without a value is not there.
        if value.is_null() {
            return;
        }
        match (self, value) {
            (PassedOver, _) => passed_over.push(path.to_owned()),
            (Fields(fields), Value::Object(given)) => {
                for (name, value) in given {
                    let path =
                        if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    match fields.iter().find(|(known, _)| known == name) {
                        Some((_, shape)) => shape.check(&path, value, problems, passed_over),
                        None => problems.push(Problem { path, reason: unknown(fields, name) }),
                    }
                }
            }
            (Map(shape), Value::Object(given)) => {
                for (name, value) in given {
                    let path = format!("{path}[{name:?}]");
                    shape.check(&path, value, problems, passed_over);
                }
            }
            (List(shape), Value::Array(items)) => {
                for (number, value) in items.iter().enumerate() {
                    shape.check(&format!("{path}[{number}]"), value, problems, passed_over);
                }
            }
            _ if self.has(value) => {}
            _ => problems.push(Problem { path: path.to_owned(), reason: self.wanted(value) }),
        }
    }

    fn has(&self, value: &Value) -> bool {
        match self {
            Text => value.is_string(),
            Number => value.is_i64(),
            Flag => value.is_boolean(),
            Either => value.is_i64() || value.is_string(),
            Quantity => match value {
                Value::String(text) => quantity_is_sound(text),
                value => value.is_number(),
            },
            Word(words) => value.as_str().is_some_and(|text| words.contains(&text)),
            Map(_) | List(_) | Fields(_) => false,
            PassedOver => true,
        }
    }

    fn wanted(&self, value: &Value) -> String {
        let wanted = match self {
            Text => "text".to_owned(),
            Number => "a whole number".to_owned(),
            Flag => "true or false".to_owned(),
            Either => "a whole number or a name".to_owned(),
            Quantity => "a quantity (500m, 64Mi)".to_owned(),
            Word(words) => {
                let words: Vec<_> = words.iter().filter(|word| !word.is_empty()).copied().collect();
                format!("one of {}", words.join(", "))
            }
            List(_) => "a list".to_owned(),
            Map(_) | Fields(_) => "an object with names and values".to_owned(),
            PassedOver => String::new(),
        };
        let hint = match (self, value) {
            (Text, Value::Number(_) | Value::Bool(_)) => "; put it into quotes",
            _ => "",
        };
        format!("must be {wanted}, and is {value}{hint}")
    }
}

fn unknown(fields: &[(&str, &Shape)], name: &str) -> String {
    let near = fields.iter().map(|(known, _)| (strsim::damerau_levenshtein(known, name), known));
    match near.min() {
        Some((distance, known)) if distance <= name.len().div_ceil(4) => {
            format!("is not known here; did you mean {known}?")
        }
        _ => "is not known here, or needs a cluster".to_owned(),
    }
}
