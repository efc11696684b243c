//! The daemon as the commands see it.

use std::{error::Error as _, future::Future, path::PathBuf};

use tokio::runtime::Runtime;
use tonic::{Code, Response, Status, transport::Channel};

use super::Error;
use crate::{
    admin::{client::channel, v1::admin_client::AdminClient},
    cli::config::Config,
    cri::v1::{
        image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient,
    },
};

/// The longest answer, in bytes: lists of all images of a node.
const MAX_ANSWER: usize = 64 << 20;

pub(in crate::cli) struct Client {
    socket: PathBuf,
    runtime: Runtime,
    channel: Channel,
}

impl Client {
    pub(in crate::cli) fn new(config: &Config) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Runtime)?;
        let socket = config.socket().to_owned();
        let channel = {
            let _inside = runtime.enter();
            channel(socket.clone())
        };
        Ok(Self { socket, runtime, channel })
    }

    pub(in crate::cli) fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(in crate::cli) fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(in crate::cli) fn pods(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// Waits for the answer of one call.
    pub(in crate::cli) fn ask<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        self.wait(async { call.await.map(Response::into_inner) })
    }

    /// Waits for several calls.
    pub(in crate::cli) fn wait<T>(
        &self,
        calls: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Error> {
        self.runtime.block_on(calls).map_err(|status| self.error(&status))
    }

    /// The daemon's own UNAVAILABLE has no source: that is about a registry.
    fn error(&self, status: &Status) -> Error {
        if status.code() == Code::Unavailable && status.source().is_some() {
            return Error::NoDaemon { socket: self.socket.clone() };
        }
        Error::Daemon(status.message().to_owned())
    }
}
