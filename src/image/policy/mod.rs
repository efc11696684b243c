//! Which images may be pulled and run: the policy file of the `containers` tools
//! (containers-policy.json(5)), with signatures as cosign makes them.
//!
//! Entry point: [`Policy::load`], then [`Policy::decide`]. The file is read at every decision,
//! so that a change counts at once. The module fetches nothing: who pulls hands it the
//! signatures that the registry has, and who makes a container those that were kept.
//!
//! What the policy asks for in a way that is not supported here (GPG signatures) is an error
//! when the file is read, never a requirement that is passed over.

mod cosign;
mod file;
mod fulcio;
mod identity;
mod key;
mod rekor;
mod scope;
#[cfg(test)]
pub(super) mod tests;

use std::path::{Path, PathBuf};

use cosign::Trust;
use file::Requirement;

use super::{Digest, Error, Reference, signature::Signature};

/// A policy as it was a moment ago.
#[derive(Debug)]
pub(super) struct Policy {
    path: PathBuf,
    file: file::File,
}

/// An image that is to be judged.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    /// As the user wrote it.
    pub(super) reference: &'a Reference,
    /// The digests that a signature may be about: of the manifest, and of the index that
    /// listed it.
    pub(super) digests: &'a [Digest],
}

impl Policy {
    /// Reads the policy file.
    ///
    /// # Errors
    /// A file that cannot be read or is not understood in full.
    pub(super) fn load(path: &Path) -> Result<Self, Error> {
        let failed = |reason: String| Error::Policy { path: path.to_owned(), reason };
        let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let file = file::File::parse(&bytes).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Whether a decision about the image needs its signatures.
    pub(super) fn wants_signatures(&self, reference: &Reference) -> bool {
        let requirements = self.file.requirements(reference);
        requirements.iter().any(|r| matches!(r, Requirement::SigstoreSigned(_)))
    }

    /// Whether the image meets every requirement that the policy has for it.
    ///
    /// # Errors
    /// [`Error::Signature`] that says which requirement is not met and why; a key that the
    /// policy names and that cannot be read.
    pub(super) fn decide(
        &self,
        candidate: &Candidate<'_>,
        signatures: &[Signature],
    ) -> Result<(), Error> {
        self.file.requirements(candidate.reference).iter().try_for_each(|requirement| {
            match requirement {
                Requirement::InsecureAcceptAnything => Ok(()),
                Requirement::Reject => Err(refused(candidate, "the policy rejects it")),
                Requirement::SigstoreSigned(wanted) => {
                    let trust = Trust::load(wanted)
                        .map_err(|reason| Error::Policy { path: self.path.clone(), reason })?;
                    trust.accept_any(candidate, signatures).map_err(|why| refused(candidate, why))
                }
            }
        })
    }
}

/// Reads any bytes as a policy, and decides with what it says.
pub(super) fn fuzz(data: &[u8]) {
    let Ok(file) = file::File::parse(data) else { return };
    let Ok(reference) = Reference::parse("registry.example/a/b:1") else { return };
    let policy = Policy { path: PathBuf::new(), file };
    let _ = policy.decide(&Candidate { reference: &reference, digests: &[] }, &[]);
}

fn refused(candidate: &Candidate<'_>, reason: impl Into<String>) -> Error {
    Error::Signature { reference: candidate.reference.to_string(), reason: reason.into() }
}
