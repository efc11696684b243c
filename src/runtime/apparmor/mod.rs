//! AppArmor: what is loaded into the kernel, and the profile that containers get by default.
//!
//! Entry points: [`is_enabled`], [`profiles`] and [`load_default`]. That a process gets its
//! profile is the matter of `label`.

mod parser;
mod profile;

use std::{
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::error::Error;

pub use parser::find as find_parser;

/// The name of the profile that is made here.
pub const DEFAULT: &str = "criquet-default";

/// Where the kernel shows its profiles.
const DIRECTORY: &str = "/sys/kernel/security/apparmor";

/// Whether the kernel enforces AppArmor profiles.
pub fn is_enabled() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.trim() == "Y")
}

/// A number that is another one after each change of what is loaded.
///
/// # Errors
/// Where securityfs is not mounted.
pub fn revision() -> io::Result<u64> {
    let file = Path::new(DIRECTORY).join("revision");
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file)?;
    // One read: the next one would wait for a change.
    let mut text = [0; 32];
    let length = match file.read(&mut text) {
        // Nothing has ever been loaded.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
        read => read?,
    };
    let text = String::from_utf8_lossy(&text[..length]);
    text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The names of the profiles that are loaded.
///
/// # Errors
/// Where securityfs is not mounted, or this process may not see it.
pub fn profiles() -> io::Result<Vec<String>> {
    let text = fs::read_to_string(Path::new(DIRECTORY).join("profiles"))?;
    Ok(text.lines().filter_map(name_of).map(str::to_owned).collect())
}

/// Of `NAME (MODE)`, as the kernel writes profiles in all places.
pub(super) fn name_of(line: &str) -> Option<&str> {
    line.trim_end().rsplit_once(" (").map(|(name, _)| name)
}

/// Loads the profile [`DEFAULT`], in the place of an older one. Waits for a program.
///
/// # Errors
/// Where there is no `apparmor_parser`, or it refuses the profile, with its words.
pub fn load_default() -> Result<(), Error> {
    parser::load(DEFAULT, &profile::text(DEFAULT, own_profile().as_deref()))
}

/// The profile of this process and of its monitors, who send signals to containers.
fn own_profile() -> Option<String> {
    let label = fs::read_to_string("/proc/self/attr/apparmor/current").ok()?;
    // Those that are unconfined have no mode.
    name_of(&label).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn names_may_hold_blanks_and_brackets() {
        assert_eq!(name_of("criquet-default (enforce)\n"), Some("criquet-default"));
        assert_eq!(name_of("a (b) c (complain)"), Some("a (b) c"));
        assert_eq!(name_of("unconfined\n"), None);
    }
}
