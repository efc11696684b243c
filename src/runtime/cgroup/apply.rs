//! Values into the files of a cgroup: all of them or none.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    super::error::{During, Error},
    settings::Setting,
    write,
};

/// Writes all values. Where one is refused, those before it get their old values back.
pub(super) fn apply(
    settings: &[Setting],
    path_of: impl Fn(&Setting) -> PathBuf,
) -> Result<(), Error> {
    let mut pending: Vec<(PathBuf, &Setting)> = settings.iter().map(|s| (path_of(s), s)).collect();
    put_growing_swap_first(&mut pending);
    put_shrinking_quota_first(&mut pending);
    let mut undo: Vec<(PathBuf, String)> = Vec::new();
    for (path, setting) in pending {
        let old = fs::read_to_string(&path);
        match set(&path, setting) {
            Ok(()) => undo.extend(old.ok().map(|old| (path, old.trim().to_owned()))),
            Err(error) => {
                for (path, old) in undo.iter().rev() {
                    // The old value was valid a moment ago; the first error is the one to tell.
                    let _ = write(path, old);
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

fn set(path: &Path, setting: &Setting) -> Result<(), Error> {
    match write(path, &setting.value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if setting.optional {
                Ok(())
            } else {
                Err(Error::Controller { path: path.to_owned() })
            }
        }
        Err(source) => match refusal(&setting.file, &source) {
            Some(reason) => {
                let (path, value) = (path.to_owned(), setting.value.clone());
                Err(Error::Limit { path, value, reason, source })
            }
            None => {
                Err(source).during("write", format!("{:?} to {}", setting.value, path.display()))
            }
        },
        Ok(()) => Ok(()),
    }
}

/// What a controller means by its answer to a value; none where it says nothing of the value.
fn refusal(file: &str, error: &io::Error) -> Option<&'static str> {
    let is_of = |controller: &str| file.starts_with(controller);
    match error.raw_os_error()? {
        libc::EBUSY if is_of("memory") => {
            Some("more than that is in use, and cannot be given back")
        }
        libc::EBUSY | libc::ENOSPC if is_of("cpuset") => {
            Some("processes in it would have no processor or no memory node left")
        }
        libc::EACCES if is_of("cpuset") => Some("it is more than the cgroup above has"),
        libc::EINVAL if is_of("cpu.cfs") || is_of("cpu.max") => {
            Some("it is outside of what the scheduler takes, or more than the cgroup above has")
        }
        libc::EINVAL | libc::ERANGE | libc::EOVERFLOW | libc::E2BIG => {
            Some("it is no value of this file")
        }
        libc::ENODEV | libc::EOPNOTSUPP => Some("this node has no such thing"),
        _ => None,
    }
}

/// v1 keeps memory limit ≤ memory and swap limit at every moment, so that a limit that grows
/// past the old sum has to come after the new sum.
fn put_growing_swap_first(pending: &mut [(PathBuf, &Setting)]) {
    let position = |name: &str| pending.iter().position(|(_, s)| s.file == name);
    let (Some(limit), Some(swap)) =
        (position("memory.limit_in_bytes"), position("memory.memsw.limit_in_bytes"))
    else {
        return;
    };
    let current = fs::read_to_string(&pending[swap].0).ok().and_then(|t| t.trim().parse().ok());
    let wanted = pending[limit].1.value.parse::<i64>().ok();
    if let (Some(current), Some(wanted)) = (current, wanted)
        && (wanted > current || wanted < 0)
    {
        pending.swap(limit, swap);
    }
}

/// v1 keeps the share of a cgroup, quota by period, within that of the cgroup above at every
/// moment: it is never more in between than before or after where a quota that shrinks comes
/// before its period, and one that grows after it.
fn put_shrinking_quota_first(pending: &mut [(PathBuf, &Setting)]) {
    let position = |name: &str| pending.iter().position(|(_, s)| s.file == name);
    let (Some(period), Some(quota)) = (position("cpu.cfs_period_us"), position("cpu.cfs_quota_us"))
    else {
        return;
    };
    // None is without a limit.
    let limit = |text: &str| text.trim().parse::<i64>().ok().filter(|quota| *quota > 0);
    let Ok(current) = fs::read_to_string(&pending[quota].0) else { return };
    let shrinks = match (limit(&current), limit(&pending[quota].1.value)) {
        (None, Some(_)) => true,
        (Some(current), Some(wanted)) => wanted < current,
        (_, None) => false,
    };
    if shrinks {
        pending.swap(period, quota);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{super::settings::setting, apply};

    #[test]
    fn a_refused_value_leaves_the_old_ones() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), "old").unwrap();
        let settings = [setting("x", "a", "new"), setting("x", "missing", "1")];
        let error = apply(&settings, |s| directory.path().join(&s.file)).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
        assert_eq!(fs::read_to_string(directory.path().join("a")).unwrap(), "old");
    }
}
