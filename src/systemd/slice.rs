//! Names of slices and where their cgroups lie (`systemd.slice(5)`).

use std::path::{Path, PathBuf};

use super::Error;

/// What every name of a slice ends with.
pub const SUFFIX: &str = ".slice";

/// The most bytes of a unit's name.
const NAME_MAX: usize = 255;

/// The cgroup of a slice: `a-b.slice` lies in `/a.slice/a-b.slice`, and `-.slice` is the root.
///
/// # Errors
/// [`Error::Slice`] for what is no name of a slice.
pub fn path_of(name: &str) -> Result<PathBuf, Error> {
    let fail = |reason| Err(Error::Slice { name: name.to_owned(), reason });
    let Some(prefix) = name.strip_suffix(SUFFIX) else { return fail("it must end with .slice") };
    if name.contains('/') {
        return fail("it must be the slice's own name, without those that it lies in");
    }
    if name.len() > NAME_MAX {
        return fail("it is too long");
    }
    if prefix == "-" {
        return Ok(PathBuf::from("/"));
    }
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\".contains(c);
    if !prefix.chars().all(is_allowed) {
        return fail("it may hold letters, digits and `:-_.\\` alone");
    }
    if prefix.split('-').any(str::is_empty) {
        return fail("there must be something before, between and after dashes");
    }
    let dashes = prefix.match_indices('-').map(|(at, _)| at).chain([prefix.len()]);
    let slices = dashes.map(|end| format!("{}{SUFFIX}", &prefix[..end]));
    Ok(Path::new("/").join(slices.collect::<PathBuf>()))
}

/// The slice for a cgroup's path, as the kubelet names those for its own: `/a/b-c` becomes
/// `a-b_c.slice`.
///
/// # Errors
/// [`Error::Slice`] where that is no name.
pub fn for_path(path: &Path) -> Result<String, Error> {
    let parts = path.components().filter_map(|part| match part {
        std::path::Component::Normal(name) => Some(name.to_string_lossy().replace('-', "_")),
        _ => None,
    });
    let name = parts.collect::<Vec<_>>().join("-") + SUFFIX;
    path_of(&name)?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{for_path, path_of};

    #[test]
    fn each_dash_leads_one_slice_deeper() {
        for (name, path) in [
            ("-.slice", "/"),
            ("a.slice", "/a.slice"),
            ("a-b.slice", "/a.slice/a-b.slice"),
            (
                "kubepods-burstable-pod1_2.slice",
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice",
            ),
            ("a.b\\x2d:_.slice", "/a.b\\x2d:_.slice"),
        ] {
            assert_eq!(path_of(name).unwrap(), Path::new(path), "{name}");
        }
    }

    #[test]
    fn what_is_no_slice_is_refused() {
        let long = format!("{}.slice", "a".repeat(250));
        for name in [
            "",
            ".slice",
            "a",
            "a.scope",
            "a-.slice",
            "-a.slice",
            "a--b.slice",
            "--.slice",
            "a/b.slice",
            "/a.slice",
            "../a.slice",
            "a b.slice",
            "a@b.slice",
            "a\n.slice",
            "\u{e4}.slice",
            &long,
        ] {
            let error = path_of(name).unwrap_err();
            assert_eq!(error.kind(), crate::kind::Kind::InvalidArgument, "{name}");
        }
    }

    #[test]
    fn a_path_becomes_a_slice_as_with_the_kubelet() {
        assert_eq!(for_path(Path::new("/criquet")).unwrap(), "criquet.slice");
        assert_eq!(for_path(Path::new("/a/b-c")).unwrap(), "a-b_c.slice");
        assert!(for_path(Path::new("/")).is_err());
        assert!(for_path(Path::new("/a b")).is_err());
    }
}
