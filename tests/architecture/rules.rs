//! The table of ARCHITECTURE.md: a module, and what it may name of others.

use std::collections::BTreeMap;

use crate::source::Tree;

/// Prefixes of paths that each module may name, itself aside.
pub struct Rules(BTreeMap<String, Vec<Vec<String>>>);

impl Rules {
    /// Reads the lines that are `` | `module` | `path`, `path` | ``.
    pub fn parse(text: &str) -> Self {
        let cell = |text: &str| -> Vec<String> {
            text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
        };
        let row = |line: &str| {
            let cells: Vec<_> = line.trim().trim_matches('|').split('|').map(cell).collect();
            match cells.as_slice() {
                [module, known] if module.len() == 1 => {
                    let path = |text: &String| text.split("::").map(str::to_owned).collect();
                    Some((module[0].clone(), known.iter().map(path).collect()))
                }
                _ => None,
            }
        };
        Self(text.lines().filter_map(row).collect())
    }

    /// A line for each path that is named and may not be.
    pub fn broken_by(&self, tree: &Tree) -> Vec<String> {
        let mut broken = Vec::new();
        for (module, source) in &tree.0 {
            let Some(own) = module.first() else { continue };
            let place = |line: usize| format!("src/{}:{line}", source.file);
            let Some(known) = self.0.get(own) else {
                broken.push(format!("{}: `{own}` is not in the table", place(1)));
                continue;
            };
            for named in source.uses.iter().chain(&source.mentions) {
                let of_crate = tree.0.contains_key(&named.path[..1.min(named.path.len())]);
                let own = named.path.first() == Some(own);
                if of_crate && !own && !known.iter().any(|path| named.path.starts_with(path)) {
                    let what = named.path.join("::");
                    broken.push(format!(
                        "{}: `{}` may not know `{what}`",
                        place(named.line),
                        module[0]
                    ));
                }
            }
        }
        broken.sort();
        broken
    }
}
