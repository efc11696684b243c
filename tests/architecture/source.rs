//! The files of a crate, as modules with the paths that they name.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::tokens::{Token, tokens, without_tests};

/// A crate: its files by their modules' paths.
pub struct Tree(pub BTreeMap<Vec<String>, Source>);

/// One file.
pub struct Source {
    /// Relative to `src`.
    pub file: String,
    pub uses: Vec<Use>,
    /// Other paths from `crate` or `super`, in the midst of the code.
    pub mentions: Vec<Use>,
}

/// A path that a file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    pub line: usize,
    pub path: Vec<String>,
    /// The name that it has here.
    pub name: String,
    /// Passed on to others (`pub use`).
    pub passed_on: bool,
}

impl Tree {
    pub fn read(directory: &Path) -> Self {
        let mut files = Vec::new();
        let mut directories = vec![directory.to_owned()];
        while let Some(next) = directories.pop() {
            for entry in fs::read_dir(&next).unwrap().map(Result::unwrap) {
                match entry.file_type().unwrap().is_dir() {
                    true => directories.push(entry.path()),
                    false => files.push(entry.path()),
                }
            }
        }
        let relative = |file: &PathBuf| file.strip_prefix(directory).unwrap().display().to_string();
        let texts: Vec<_> =
            files.iter().map(|file| (relative(file), fs::read_to_string(file).unwrap())).collect();
        let texts: Vec<_> =
            texts.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
        Self::of(&texts)
    }

    pub fn of(files: &[(&str, &str)]) -> Self {
        let of_library = |file: &str| {
            let of_tests = file.split('/').any(|part| part == "tests" || part == "tests.rs");
            file.ends_with(".rs") && file != "main.rs" && !file.starts_with("bin/") && !of_tests
        };
        let files = files.iter().filter(|(file, _)| of_library(file));
        Self(files.map(|(file, text)| (module_of(file), Source::of(file, text))).collect())
    }

    /// The longest part of a path that is a module with a file.
    pub fn module<'path>(&self, path: &'path [String]) -> &'path [String] {
        let longest = (0..=path.len()).rev().find(|&length| self.0.contains_key(&path[..length]));
        &path[..longest.unwrap_or(0)]
    }
}

/// `a/b.rs` and `a/b/mod.rs` are the module `a::b`, `lib.rs` is the root.
fn module_of(file: &str) -> Vec<String> {
    let file = file.trim_end_matches(".rs");
    let file = file.strip_suffix("/mod").unwrap_or(file);
    file.split('/').filter(|part| *part != "lib").map(str::to_owned).collect()
}

impl Source {
    fn of(file: &str, text: &str) -> Self {
        let tokens = without_tests(tokens(text));
        let module = module_of(file);
        let (mut uses, mut mentions) = (Vec::new(), Vec::new());
        let mut at = 0;
        while at < tokens.len() {
            // `impl Trait + use<>` names no path.
            if tokens[at].1 == "use" && tokens.get(at + 1).is_some_and(|(_, next)| next != "<") {
                let passed_on = at > 0 && matches!(tokens[at - 1].1.as_str(), "pub" | ")");
                at = use_tree(&tokens, at + 1, &[], passed_on, &mut uses);
            } else if matches!(tokens[at].1.as_str(), "crate" | "super")
                && at > 0
                && tokens[at - 1].1 != "("
            {
                at = mention(&tokens, at, &mut mentions);
            } else {
                at += 1;
            }
        }
        for path in uses.iter_mut().chain(&mut mentions) {
            path.path = absolute(&module, &path.path);
        }
        Self { file: file.to_owned(), uses, mentions }
    }
}

/// From the root of the crate; what begins with the name of a crate stays as it is.
fn absolute(module: &[String], path: &[String]) -> Vec<String> {
    let mut base = module.to_vec();
    let mut rest = path;
    match path.first().map(String::as_str) {
        Some("crate") => (base, rest) = (Vec::new(), &path[1..]),
        Some("self") => rest = &path[1..],
        _ => {}
    }
    while rest.first().is_some_and(|part| part == "super") {
        base.pop();
        rest = &rest[1..];
    }
    base.extend_from_slice(rest);
    base
}

/// Reads `a::{b, c as d}` and what else may stand behind `use`; returns where it ends.
fn use_tree(
    tokens: &[Token],
    mut at: usize,
    prefix: &[String],
    passed_on: bool,
    uses: &mut Vec<Use>,
) -> usize {
    let mut path = prefix.to_vec();
    let mut name = prefix.last().cloned().unwrap_or_default();
    let line = tokens.get(at).map_or(0, |(line, _)| *line);
    while let Some((_, token)) = tokens.get(at) {
        match token.as_str() {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|(_, token)| token != "}" && token != ";") {
                    at = use_tree(tokens, at, &path, passed_on, uses);
                    at += usize::from(tokens.get(at).is_some_and(|(_, token)| token == ","));
                }
                return at + 1;
            }
            "," | ";" | "}" => break,
            "::" => {}
            "as" => name.clear(),
            "self" if !path.is_empty() => {}
            word if name.is_empty() && !path.is_empty() => name = word.to_owned(),
            word => {
                path.push(word.to_owned());
                name = word.to_owned();
            }
        }
        at += 1;
    }
    uses.push(Use { line, path, name, passed_on });
    at
}

fn mention(tokens: &[Token], mut at: usize, mentions: &mut Vec<Use>) -> usize {
    let line = tokens[at].0;
    let mut path = vec![tokens[at].1.clone()];
    at += 1;
    while let [(_, colons), (_, word), ..] = &tokens[at..]
        && colons == "::"
        && word.starts_with(|c: char| c.is_alphabetic() || c == '_')
    {
        path.push(word.clone());
        at += 2;
    }
    if path.len() > 1 {
        let name = path.last().cloned().unwrap_or_default();
        mentions.push(Use { line, path, name, passed_on: false });
    }
    at
}
