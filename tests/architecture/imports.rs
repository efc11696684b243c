//! From paths to the files that have what they name.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::Tree;

/// Files, and those that each imports.
pub type Edges = BTreeMap<String, BTreeSet<String>>;

/// Declaring a module is no import, and neither is passing on the names of one. What a child
/// has of the module that it is part of is left out: the two are one thing.
pub fn edges(tree: &Tree) -> Edges {
    let mut edges = Edges::new();
    for (module, source) in &tree.0 {
        let named = source.uses.iter().filter(|named| !named.passed_on).chain(&source.mentions);
        for path in named.map(|named| &named.path) {
            let target = home_of(tree, path.clone());
            if !module.starts_with(&target) {
                let file = tree.0[&target].file.clone();
                edges.entry(source.file.clone()).or_default().insert(file);
            }
        }
    }
    edges
}

/// The module that a name is defined in, which others may have passed on.
fn home_of(tree: &Tree, mut path: Vec<String>) -> Vec<String> {
    // More steps than any name takes: two modules may pass each other's names on.
    for _ in 0..8 {
        let module = tree.module(&path).to_vec();
        let Some(item) = path.get(module.len()) else { return module };
        let imports = tree.0.get(&module).map(|source| source.uses.as_slice()).unwrap_or_default();
        let import = imports.iter().find(|import| &import.name == item);
        let Some(import) = import.filter(|i| !tree.module(&i.path).is_empty()) else {
            return module;
        };
        path = import.path.iter().chain(&path[module.len() + 1..]).cloned().collect();
    }
    tree.module(&path).to_vec()
}
