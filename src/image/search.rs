//! The way through indexes to the manifest that runs here. Indexes list indexes, and entries
//! that do not say whom they are for; what is behind these is looked at, the best first, until
//! one fits. Who searches brings the documents.

use super::{
    Digest, Error,
    manifest::{Descriptor, ranked},
    platform::Platform,
};

/// Indexes may list indexes, but not without end.
const DEPTH: usize = 3;
/// Documents that are looked at for one image.
const LOOKS: usize = 64;

/// What is left to look at.
pub(super) struct Search {
    here: Platform,
    /// The next one last.
    ways: Vec<Way>,
    looks: usize,
    offered: Vec<String>,
}

/// A document to look at, and how it was come to.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) descriptor: Descriptor,
    /// Of the documents that led to it, and last its own.
    pub(super) digests: Vec<Digest>,
}

impl Way {
    /// Whether an index says whom it is for; otherwise its configuration does.
    pub(super) fn is_for_us(&self) -> bool {
        self.descriptor.platform.as_ref().is_some_and(Platform::is_whole)
    }
}

impl Search {
    /// Among the entries of the index of that digest.
    pub(super) fn among(entries: Vec<Descriptor>, index: Digest) -> Self {
        let here = Platform::here();
        let mut search = Self { here, ways: Vec::new(), looks: 0, offered: Vec::new() };
        search.add(&[index], entries);
        search
    }

    /// From one entry.
    pub(super) fn from(descriptor: Descriptor) -> Self {
        let digests = vec![descriptor.digest];
        let ways = vec![Way { descriptor, digests }];
        Self { here: Platform::here(), ways, looks: 0, offered: Vec::new() }
    }

    pub(super) fn next(&mut self) -> Option<Way> {
        self.looks += 1;
        if self.looks > LOOKS { None } else { self.ways.pop() }
    }

    /// What was come to is an index.
    pub(super) fn go_on(&mut self, way: &Way, entries: Vec<Descriptor>) {
        if way.digests.len() < DEPTH {
            self.add(&way.digests, entries);
        }
    }

    /// What was come to is an image for that platform, by its configuration. Whether it runs
    /// here.
    pub(super) fn fits(&mut self, platform: &Platform) -> bool {
        let fits = self.here.runs(platform);
        if !fits {
            self.offered.push(platform.describe());
        }
        fits
    }

    /// Nothing of all that fits.
    pub(super) fn error(&self, reference: &impl ToString) -> Error {
        if self.looks > LOOKS {
            return Error::unusable(reference, "its indexes lead to too many manifests");
        }
        let mut offered = self.offered.clone();
        offered.truncate(20);
        let offered = if offered.is_empty() { "nothing".to_owned() } else { offered.join(", ") };
        let (reference, wanted) = (reference.to_string(), self.here.describe());
        Error::Platform { reference, wanted, offered }
    }

    fn add(&mut self, path: &[Digest], entries: Vec<Descriptor>) {
        let named = entries.iter().filter_map(|entry| entry.platform.as_ref());
        let others = named.filter(|p| p.is_whole() && self.here.rank(p).is_none());
        self.offered.extend(others.filter(|p| p.os != "unknown").map(Platform::describe));
        for descriptor in ranked(entries, &self.here).into_iter().rev() {
            let digests = [path, &[descriptor.digest]].concat();
            self.ways.push(Way { descriptor, digests });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(platforms: &[&str]) -> Vec<Descriptor> {
        let entry = |(number, text): (usize, &&str)| {
            let digest = Digest::of(format!("{number} {text}").as_bytes());
            let platform = text.split_once('/').map(
                |(os, architecture)| serde_json::json!({ "os": os, "architecture": architecture }),
            );
            let json = serde_json::json!({ "digest": digest, "size": 1, "platform": platform });
            serde_json::from_value(json).unwrap()
        };
        platforms.iter().enumerate().map(entry).collect()
    }

    fn search(platforms: &[&str]) -> Search {
        let amd64 = || Platform {
            os: "linux".into(),
            architecture: "amd64".into(),
            variant: String::new(),
        };
        let mut search = Search { here: amd64(), ways: vec![], looks: 0, offered: vec![] };
        search.add(&[Digest::of(b"index")], entries(platforms));
        search
    }

    fn platform_of(way: Option<Way>) -> Option<String> {
        way.map(|way| way.descriptor.platform.map_or("none".into(), |p| p.describe()))
    }

    #[test]
    fn the_best_comes_first_and_the_unsaid_last() {
        let platforms =
            ["unknown/unknown", "", "linux/386", "linux/arm64", "linux/", "linux/amd64"];
        let mut search = search(&platforms);
        for expected in [Some("linux/amd64"), Some("linux/386"), Some("none"), Some("linux"), None]
        {
            assert_eq!(platform_of(search.next()).as_deref(), expected);
        }
        assert!(search.error(&"x").to_string().contains("it offers linux/arm64;"));
    }

    #[test]
    fn what_does_not_fit_is_passed_over() {
        let mut search = search(&["", ""]);
        let first = search.next().unwrap();
        assert!(!first.is_for_us());
        search.go_on(&first, entries(&["linux/arm64", "linux/amd64"]));
        let second = search.next().unwrap();
        assert!(second.is_for_us());
        assert_eq!(second.digests.len(), 3);
        search.go_on(&second, entries(&["linux/amd64"]));
        let last = search.next().unwrap();
        assert_eq!(last.digests.len(), 2, "what is deeper is not looked at");
        let arm = entries(&["linux/arm64"]).remove(0).platform.unwrap();
        assert!(!search.fits(&arm) && search.fits(&Platform::default()));
        assert!(search.next().is_none());
    }

    #[test]
    fn an_index_without_end_has_one() {
        let mut search = search(&vec![""; LOOKS + 1]);
        assert_eq!(std::iter::from_fn(|| search.next()).count(), LOOKS);
        assert!(search.error(&"x").to_string().contains("too many"));
    }
}
