//! Limits of a process, as `ulimit` and other runtimes name them.

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};
use serde::{Deserialize, Serialize};

/// No limit (`RLIM_INFINITY`).
pub const UNLIMITED: u64 = u64::MAX;

/// The limits of Linux (getrlimit(2)).
pub const ALL: [(&str, PosixRlimitType); 16] = {
    use PosixRlimitType as R;
    [
        ("as", R::RlimitAs),
        ("core", R::RlimitCore),
        ("cpu", R::RlimitCpu),
        ("data", R::RlimitData),
        ("fsize", R::RlimitFsize),
        ("locks", R::RlimitLocks),
        ("memlock", R::RlimitMemlock),
        ("msgqueue", R::RlimitMsgqueue),
        ("nice", R::RlimitNice),
        ("nofile", R::RlimitNofile),
        ("nproc", R::RlimitNproc),
        ("rss", R::RlimitRss),
        ("rtprio", R::RlimitRtprio),
        ("rttime", R::RlimitRttime),
        ("sigpending", R::RlimitSigpending),
        ("stack", R::RlimitStack),
    ]
};

/// One limit of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Of what.
    pub kind: PosixRlimitType,
    /// What holds.
    pub soft: u64,
    /// Up to where the process may raise it.
    pub hard: u64,
}

impl Ulimit {
    /// Reads `NAME=SOFT:HARD`, or `NAME=BOTH`; `unlimited` and -1 are no limit.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no limit; write NAME=SOFT:HARD, as in \"nofile=1024:524288\"");
        let (name, values) = text.trim().split_once('=').ok_or_else(wrong)?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let value = |text: &str| match text {
            "-1" | "unlimited" => Some(UNLIMITED),
            digits => digits.parse().ok(),
        };
        let (Some(soft), Some(hard)) = (value(soft), value(hard)) else { return Err(wrong()) };
        if soft > hard {
            return Err(format!("{text:?} has a soft limit above the hard one"));
        }
        let name = name.trim().to_ascii_lowercase();
        let name = name.strip_prefix("rlimit_").unwrap_or(&name);
        match ALL.iter().find(|(known, _)| *known == name) {
            Some((_, kind)) => Ok(Self { kind: *kind, soft, hard }),
            None => {
                let names = ALL.map(|(name, _)| name).join(", ");
                Err(format!("{text:?} is about {name:?}; there are {names}"))
            }
        }
    }

    /// As an OCI spec has it, with no more than `ceiling`.
    pub(super) fn oci(&self, ceiling: u64) -> PosixRlimit {
        let limit = PosixRlimitBuilder::default().typ(self.kind);
        let limit = limit.soft(self.soft.min(ceiling)).hard(self.hard.min(ceiling));
        // Nothing is missing.
        limit.build().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{UNLIMITED, Ulimit};
    use oci_spec::runtime::PosixRlimitType;

    #[test]
    fn limits_are_read() {
        let read = |text: &str| Ulimit::parse(text).map(|limit| (limit.soft, limit.hard));
        assert_eq!(read("nofile=1:2"), Ok((1, 2)));
        assert_eq!(read(" RLIMIT_CORE=0"), Ok((0, 0)));
        assert_eq!(read("memlock=5:-1"), Ok((5, UNLIMITED)));
        assert_eq!(read("memlock=unlimited"), Ok((UNLIMITED, UNLIMITED)));
        assert_eq!(Ulimit::parse("stack=1").unwrap().kind, PosixRlimitType::RlimitStack);
        for wrong in ["", "nofile", "nofile=", "nofile=x", "nofile=2:1", "files=1", "nofile=1:2:3"]
        {
            assert!(Ulimit::parse(wrong).is_err(), "{wrong}");
        }
    }
}
