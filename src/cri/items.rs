//! The items of the lists of pods and containers, encoded once for each of their states.

use std::collections::HashMap;

use prost::Message;

use super::{encoded::Encoded, v1};

/// `Container` of the CRI, as it is on the wire.
pub type ContainerItem = Encoded<PlainContainerItem>;

/// `PodSandbox` of the CRI, as it is on the wire.
pub type PodSandboxItem = Encoded<PlainPodSandboxItem>;

/// A container in a list.
#[derive(Clone, PartialEq, Message)]
pub struct PlainContainerItem {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The pod that it is in.
    #[prost(string, tag = "2")]
    pub pod_sandbox_id: String,
    /// Its name.
    #[prost(message, optional, tag = "3")]
    pub metadata: Option<v1::ContainerMetadata>,
    /// The image that was asked for.
    #[prost(message, optional, tag = "4")]
    pub image: Option<v1::ImageSpec>,
    /// A name of its image with a digest.
    #[prost(string, tag = "5")]
    pub image_ref: String,
    /// Where it is in its life.
    #[prost(enumeration = "v1::ContainerState", tag = "6")]
    pub state: i32,
    /// Nanoseconds since the epoch.
    #[prost(int64, tag = "7")]
    pub created_at: i64,
    /// Its labels.
    #[prost(map = "string, string", tag = "8")]
    pub labels: HashMap<String, String>,
    /// Its annotations.
    #[prost(map = "string, string", tag = "9")]
    pub annotations: HashMap<String, String>,
    /// The one id of its image.
    #[prost(string, tag = "10")]
    pub image_id: String,
}

/// A sandbox in a list.
#[derive(Clone, PartialEq, Message)]
pub struct PlainPodSandboxItem {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its name.
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<v1::PodSandboxMetadata>,
    /// Whether it is ready.
    #[prost(enumeration = "v1::PodSandboxState", tag = "3")]
    pub state: i32,
    /// Nanoseconds since the epoch.
    #[prost(int64, tag = "4")]
    pub created_at: i64,
    /// Its labels.
    #[prost(map = "string, string", tag = "5")]
    pub labels: HashMap<String, String>,
    /// Its annotations.
    #[prost(map = "string, string", tag = "6")]
    pub annotations: HashMap<String, String>,
    /// The runtime handler that was asked for.
    #[prost(string, tag = "7")]
    pub runtime_handler: String,
}
