//! Answers as they come, not taken apart: what that costs is the client's own affair, and
//! differs between clients by more than runtimes do.

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use tonic::{
    Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};

use crate::client::{Client, LIMIT};

impl Client {
    /// Calls a method of the runtime service and takes its whole answer.
    ///
    /// # Errors
    /// What the runtime answers instead.
    pub async fn answer(&self, method: &str, request: &impl Message) -> Result<Bytes, Status> {
        let path = format!("/runtime.v1.RuntimeService/{method}");
        let path =
            PathAndQuery::try_from(path).map_err(|error| Status::internal(error.to_string()))?;
        let mut calls = Grpc::new(self.channel.clone()).max_decoding_message_size(LIMIT);
        calls.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let request = tonic::Request::new(Bytes::from(request.encode_to_vec()));
        calls.unary(request, path, Raw).await.map(tonic::Response::into_inner)
    }
}

/// Messages as their bytes.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
