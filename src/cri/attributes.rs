//! Who somebody is that figures are of: the part of a list of statistics that never changes,
//! encoded once.

use std::{collections::HashMap, sync::OnceLock};

use bytes::Bytes;
use prost::Message;

use super::{encoded::Encoded, v1};

/// `ContainerAttributes` of the CRI, as it is on the wire.
pub type ContainerAttributes = Encoded<PlainContainerAttributes>;

/// `PodSandboxAttributes` of the CRI, as it is on the wire.
pub type PodSandboxAttributes = Encoded<PlainPodSandboxAttributes>;

/// Who a container is.
#[derive(Clone, PartialEq, Message)]
pub struct PlainContainerAttributes {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its name.
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<v1::ContainerMetadata>,
    /// Its labels.
    #[prost(map = "string, string", tag = "3")]
    pub labels: HashMap<String, String>,
    /// Its annotations.
    #[prost(map = "string, string", tag = "4")]
    pub annotations: HashMap<String, String>,
}

/// Who a sandbox is.
#[derive(Clone, PartialEq, Message)]
pub struct PlainPodSandboxAttributes {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its name.
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<v1::PodSandboxMetadata>,
    /// Its labels.
    #[prost(map = "string, string", tag = "3")]
    pub labels: HashMap<String, String>,
    /// Its annotations.
    #[prost(map = "string, string", tag = "4")]
    pub annotations: HashMap<String, String>,
}

/// What is kept from the first time on.
pub(super) fn encoded_once<M: Message>(
    kept: &OnceLock<Bytes>,
    plain: impl FnOnce() -> M,
) -> Encoded<M> {
    Encoded::from_bytes(kept.get_or_init(|| plain().encode_to_vec().into()).clone())
}
