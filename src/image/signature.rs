//! A signature as registries have it and records keep it. What it is worth, `policy` says.

use serde::{Deserialize, Serialize};

/// One signature of an image, as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Signature {
    /// What was signed, as it is.
    pub(super) payload: String,
    /// Base64.
    pub(super) signature: String,
    /// The signer's certificate, PEM.
    pub(super) certificate: Option<String>,
    /// Certificates between it and the authority's, PEM.
    pub(super) chain: Option<String>,
    /// The transparency log's signed promise, JSON.
    pub(super) bundle: Option<String>,
}
