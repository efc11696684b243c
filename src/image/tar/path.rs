//! Paths within an archive.

/// The components of a path as Go's `path.Clean` leaves them: without `.`, empty ones and what
/// a `..` takes back. Nothing where it leads out of the archive. Links do not count: `a/../b` is
/// `b`, wherever `a` leads.
pub(in crate::image) fn clean(path: &[u8]) -> Option<Vec<&[u8]>> {
    let mut components = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop()?;
            }
            component => components.push(component),
        }
    }
    Some(components)
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn paths_are_cleaned_as_go_does() {
        for (path, cleaned) in [
            ("a/../b", Some("b")),
            ("./a//b/./", Some("a/b")),
            ("a/b/../../c", Some("c")),
            ("a/..", Some("")),
            ("/", Some("")),
            ("..", None),
            ("a/../../b", None),
            ("/../x", None),
            ("a..b/...", Some("a..b/...")),
        ] {
            let found = clean(path.as_bytes()).map(|components| components.join(&b'/'));
            assert_eq!(found.as_deref(), cleaned.map(str::as_bytes), "{path}");
        }
    }
}
