//! The annotations of Kubernetes that limit how fast a pod may send and receive.

use super::{error::Error, request::PodRequest};
use crate::quantity;

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";

/// What Kubernetes takes for a rate, in bits a second (1k to 1P).
const RATES: std::ops::RangeInclusive<u64> = 1_000..=1_000_000_000_000_000;

/// The limits of a pod in bits a second, each by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bandwidth {
    /// What the pod receives.
    pub(super) ingress: Option<u64>,
    /// What the pod sends.
    pub(super) egress: Option<u64>,
}

impl Bandwidth {
    /// The limits that the pod's annotations ask for.
    ///
    /// # Errors
    /// A value that is no quantity of Kubernetes, or no rate.
    pub(super) fn of(pod: &PodRequest) -> Result<Self, Error> {
        let rate = |annotation: &str| {
            let Some(text) = pod.annotations.get(annotation) else { return Ok(None) };
            let rate = quantity::whole(text).filter(|rate| RATES.contains(rate));
            rate.map(Some).ok_or_else(|| Error::Annotation {
                reason: format!(
                    "annotation {annotation} {text:?} is no rate from 1k to 1P bits a second"
                ),
            })
        };
        Ok(Self { ingress: rate(INGRESS)?, egress: rate(EGRESS)? })
    }
}
