//! YAML as far as it says what JSON can say: names as keys, no references.

use serde_json::{Map, Number, Value};
use yaml_rust2::{Event, parser::Parser, scanner::TScalarStyle};

/// Deeper than any specification.
const DEPTH: usize = 64;

/// A list or a map that is not at its end; a map has the key whose value comes next.
enum Open {
    List(Vec<Value>),
    Map(Map<String, Value>, Option<String>),
}

/// The value of a text that is one document.
///
/// # Errors
/// What is wrong with it, in words.
pub fn value(text: &str) -> Result<Value, String> {
    let mut documents = documents(text)?;
    match documents.len() {
        0 => Err("it is empty".to_owned()),
        1 => Ok(documents.remove(0)),
        _ => Err("there is a second document".to_owned()),
    }
}

/// The values of all documents of a text.
///
/// # Errors
/// What is wrong with it, in words.
pub fn documents(text: &str) -> Result<Vec<Value>, String> {
    let mut parser = Parser::new_from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut whole = Vec::new();
    loop {
        let (event, mark) = parser.next_token().map_err(|error| error.to_string())?;
        let wrong = |reason: &str| format!("line {}: {reason}", mark.line());
        let closed = match event {
            Event::StreamEnd => return Ok(whole),
            Event::Nothing | Event::StreamStart | Event::DocumentStart | Event::DocumentEnd => {
                continue;
            }
            Event::Alias(_) => return Err(wrong("references are not understood")),
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() == DEPTH => {
                return Err(wrong("it is too deep"));
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Map::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(list)) => Value::Array(list),
                Some(Open::Map(map, _)) => Value::Object(map),
                None => return Err(wrong("something ends that did not begin")),
            },
            Event::Scalar(text, style, ..) => {
                if let Some(Open::Map(map, key @ None)) = open.last_mut() {
                    if map.contains_key(&text) {
                        return Err(wrong(&format!("{text:?} comes twice")));
                    }
                    *key = Some(text);
                    continue;
                }
                match style {
                    TScalarStyle::Plain => plain(text),
                    _ => Value::String(text),
                }
            }
        };
        match open.last_mut() {
            None => whole.push(closed),
            Some(Open::List(list)) => list.push(closed),
            Some(Open::Map(map, key)) => match key.take() {
                Some(key) => drop(map.insert(key, closed)),
                None => return Err(wrong("a key is a list or a map")),
            },
        }
    }
}

/// What a text without quotes means: YAML 1.2, and octal numbers as YAML 1.1 has them, which is
/// how modes of files are written.
fn plain(text: String) -> Value {
    let integer = |digits: &str, base| i64::from_str_radix(digits, base).ok().map(Value::from);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = match text.as_bytes() {
        [] | [b'~'] => return Value::Null,
        [b'0', b'o', ..] => integer(&text[2..], 8),
        [b'0', b'x', ..] => integer(&text[2..], 16),
        [b'0', _, ..] if digits(&text) => integer(&text, 8),
        _ if digits(text.trim_start_matches(['-', '+'])) => integer(&text, 10),
        [first, ..] if first.is_ascii_digit() || b"-.".contains(first) => {
            text.parse().ok().and_then(Number::from_f64).map(Value::Number)
        }
        _ => None,
    };
    if let Some(number) = number {
        return number;
    }
    match text.as_str() {
        "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => Value::String(text),
    }
}

#[cfg(test)]
mod tests {
    use super::{documents, value};
    use serde_json::json;

    #[test]
    fn scalars_have_their_types() {
        let text = "a: 0666\nb: 0o17\nc: '7'\nd: 0.7.0\ne: true\nf: -3\ng:\nh: 1.5\n\
                    i: [x, {y: z}]\nj: |\n  two\n  lines\nk: 08\n";
        let expected = json!({
            "a": 0o666, "b": 15, "c": "7", "d": "0.7.0", "e": true, "f": -3, "g": null, "h": 1.5,
            "i": ["x", { "y": "z" }], "j": "two\nlines\n", "k": "08",
        });
        assert_eq!(value(text).unwrap(), expected);
    }

    #[test]
    fn several_documents() {
        assert_eq!(documents("a: 1\n---\n[2]\n").unwrap(), [json!({ "a": 1 }), json!([2])]);
        assert!(documents("# nothing\n").unwrap().is_empty());
        assert!(documents("a: 1\n---\na: [").is_err());
    }

    #[test]
    fn what_json_cannot_say_is_refused() {
        let deep = "[".repeat(100_000);
        for text in ["", "a: &x 1\nb: *x", "a: 1\n---\nb: 2", "a: 1\na: 2", "[1]: 2", "a: [", &deep]
        {
            assert!(value(text).is_err(), "{:.20}", text);
        }
    }
}
