//! Circles in a graph of files.

use std::collections::{BTreeSet, VecDeque};

use crate::imports::Edges;

/// A shortest circle through each file that is on one, each circle once.
pub fn circles(edges: &Edges) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let circles = edges.keys().filter_map(|file| circle_through(edges, file));
    circles
        .filter(|circle| seen.insert(circle.iter().cloned().collect::<BTreeSet<_>>()))
        .map(|circle| circle.join(" -> "))
        .collect()
}

fn circle_through(edges: &Edges, start: &String) -> Option<Vec<String>> {
    let mut reached = BTreeSet::new();
    let mut queue = VecDeque::from([vec![start.clone()]]);
    while let Some(path) = queue.pop_front() {
        for next in edges.get(path.last()?).into_iter().flatten() {
            let longer = || path.iter().chain([next]).cloned().collect();
            if next == start {
                return Some(longer());
            }
            if reached.insert(next) {
                queue.push_back(longer());
            }
        }
    }
    None
}
