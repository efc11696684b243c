//! Session keyrings: `keyctl(2)`.

use std::{ffi::CString, io};

use super::check;

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
const KEYCTL_SETPERM: libc::c_int = 5;

/// Everything for who possesses the keyring, and for its owner only to find it by its name
/// (`KEY_POS_ALL | KEY_USR_SEARCH`): that is what a join by name asks for. Its owner is root,
/// as root of every other container is, and may neither list nor read it.
const PERMISSIONS: libc::c_ulong = 0x3f00_0000 | 0x0008_0000;

/// The name of a session keyring that nobody can guess.
#[derive(Debug)]
pub struct Keyring(CString);

impl Keyring {
    /// A name that no keyring has.
    ///
    /// # Errors
    /// Those of `getrandom(2)`.
    pub fn unique() -> io::Result<Self> {
        let mut bytes = [0_u8; 16];
        // SAFETY: the buffer has the length that is passed.
        check(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } as i64)?;
        let name: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self(CString::new(format!("_ses.{name}")).map_err(io::Error::other)?))
    }

    /// Makes the keyring of this name, or a new one, that of the session of the calling
    /// process and of its children.
    ///
    /// # Errors
    /// Those of the call, but for `ENOSYS`, of a kernel without keyrings: there is nothing to
    /// share then.
    pub fn join(&self) -> io::Result<()> {
        // SAFETY: the name outlives the call.
        let joined = check(unsafe {
            libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, self.0.as_ptr())
        });
        let serial = match joined {
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => return Ok(()),
            joined => joined?,
        };
        // SAFETY: the call takes numbers alone.
        check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, serial, PERMISSIONS) })
            .map(drop)
    }
}
