//! The program that compiles profiles and gives them to the kernel.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::runtime::{
    error::Error,
    program::{self, Program},
};

/// Where it may be.
const PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// How long it may take: emulated and busy machines need seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// The program `apparmor_parser`; none where it is not installed.
pub fn find() -> Option<PathBuf> {
    PLACES
        .into_iter()
        .map(|directory| Path::new(directory).join("apparmor_parser"))
        .find(|path| path.is_file())
}

/// Loads a profile, in the place of one of the same name.
pub(super) fn load(name: &str, text: &str) -> Result<(), Error> {
    let refused = |reason: String| Error::Profile { profile: name.to_owned(), reason };
    let program = find().ok_or_else(|| {
        refused("there is no apparmor_parser; install the package apparmor on this node".to_owned())
    })?;
    // Replaces, and leaves no copy in the cache.
    let arguments = ["apparmor_parser", "--replace", "--skip-cache"].map(str::to_owned);
    let program = Program {
        path: &program,
        arguments: &arguments,
        environment: &["PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
        input: text.as_bytes(),
        limit: LIMIT,
        over: None,
    };
    program::run(&program).map_err(|failure| refused(format!("apparmor_parser {failure}")))
}
