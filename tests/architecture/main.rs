//! Who knows whom: the paths that the files of `src/` name, held against the table in
//! ARCHITECTURE.md, and searched for circles of files that import each other.
//!
//! Tests and what only they use (`#[cfg(test)]`, `tests.rs`, `tests/`) may know what they like.

mod graph;
mod imports;
mod rules;
mod source;
mod tokens;

use std::{fs, path::Path};

use source::Tree;

fn tree() -> Tree {
    Tree::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

#[test]
fn modules_know_only_whom_they_may() {
    let table = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md"));
    let rules = rules::Rules::parse(&table.unwrap());
    let broken = rules.broken_by(&tree());
    assert!(broken.is_empty(), "see `Who may know whom` in ARCHITECTURE.md\n{}", broken.join("\n"));
}

#[test]
fn no_files_import_each_other() {
    let circles = graph::circles(&imports::edges(&tree()));
    assert!(circles.is_empty(), "files that import each other:\n{}", circles.join("\n"));
}

#[test]
fn what_breaks_a_rule_is_found() {
    let rules = rules::Rules::parse("| `low` | |\n| `high` | `low`, `mid::face` |\n| `mid` | |\n");
    let tree = Tree::of(&[
        ("lib.rs", "mod low; mod high; mod mid;"),
        ("low.rs", "use crate::{high::A, low::B}; // crate::mid\nfn f() { crate::mid::x(); }"),
        ("high.rs", "use crate::low;\nuse crate::mid::face::C;\nuse crate::mid::secret;"),
        ("mid.rs", "#[cfg(test)]\nmod tests { use crate::high::A; }"),
        ("new.rs", ""),
    ]);
    assert_eq!(
        rules.broken_by(&tree),
        [
            "src/high.rs:3: `high` may not know `mid::secret`",
            "src/low.rs:1: `low` may not know `high::A`",
            "src/low.rs:2: `low` may not know `mid::x`",
            "src/new.rs:1: `new` is not in the table",
        ]
    );
}

#[test]
fn circles_are_found_through_names_that_are_passed_on() {
    let circles_of = |files: &[(&str, &str)]| graph::circles(&imports::edges(&Tree::of(files)));
    let two =
        [("lib.rs", "mod a; mod b;"), ("a.rs", "use super::b::B;"), ("b.rs", "use crate::a;")];
    assert_eq!(circles_of(&two), ["a.rs -> b.rs -> a.rs"]);
    // A parent and its child are one thing.
    let face = [
        ("lib.rs", "mod p;"),
        ("p/mod.rs", "mod child;\nmod other;\nuse child::C;\npub struct P(C);"),
        ("p/child.rs", "use super::{P, other::O};"),
        ("p/other.rs", "pub struct O;"),
    ];
    assert_eq!(circles_of(&face), [""; 0]);
    // Through a face, the file that has the name counts.
    let through = [
        ("lib.rs", "mod p;"),
        ("p/mod.rs", "mod a;\nmod b;\npub use a::A;"),
        ("p/a.rs", "use super::b::B;\npub struct A;"),
        ("p/b.rs", "use super::A;\npub struct B;"),
    ];
    assert_eq!(circles_of(&through), ["p/a.rs -> p/b.rs -> p/a.rs"]);
}
