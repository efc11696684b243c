//! The conditions of rules in Docker's format.

use std::str::FromStr;

use oci_spec::runtime::Capability;
use serde::Deserialize;

use crate::spec::capabilities::Set;

/// What conditions are about.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a> {
    /// What the container may have.
    pub capabilities: &'a Set,
    /// The first two numbers of the kernel's version.
    pub kernel: (u32, u32),
}

/// What a rule asks for. Absent parts ask for nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Condition {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl Condition {
    /// For `includes`: every capability, one of the architectures, and the kernel.
    pub(super) fn all_hold(&self, machine: &Machine<'_>) -> bool {
        let arches = self.arches.as_deref().unwrap_or_default();
        self.capabilities(machine).all(|has| has)
            && (arches.is_empty() || self.has_architecture())
            && self.kernel(machine).unwrap_or(true)
    }

    /// For `excludes`: a capability, an architecture, or the kernel.
    pub(super) fn any_holds(&self, machine: &Machine<'_>) -> bool {
        self.capabilities(machine).any(|has| has)
            || self.has_architecture()
            || self.kernel(machine).unwrap_or(false)
    }

    fn capabilities(&self, machine: &Machine<'_>) -> impl Iterator<Item = bool> {
        let names = self.caps.iter().flatten();
        names.map(|name| {
            let short = name.strip_prefix("CAP_").unwrap_or(name);
            Capability::from_str(short).is_ok_and(|one| machine.capabilities.contains(&one))
        })
    }

    /// By the names that Docker has for them, which are those of Go.
    fn has_architecture(&self) -> bool {
        let own = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        self.arches.iter().flatten().any(|name| name == own)
    }

    fn kernel(&self, machine: &Machine<'_>) -> Option<bool> {
        let least = self.min_kernel.as_deref().filter(|least| !least.is_empty())?;
        // What is no version is one that no kernel has.
        Some(version(least).is_some_and(|least| machine.kernel >= least))
    }
}

/// The first two numbers of a version, such as `6.1.0-35-amd64`.
pub fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}
