//! URLs for streams.

use std::sync::Arc;

use super::{error::Error, remote_command::Wanted, tokens::Tokens};
use crate::pod::{Container, ExecRequest, Sandbox};

/// What a token stands for.
pub enum Request {
    /// A command in a container.
    Exec(Arc<Container>, ExecRequest),
    /// The streams of a container.
    Attach(Arc<Container>, Wanted),
    /// Ports of a pod; those that clients of the channel protocol cannot name themselves.
    PortForward(Arc<Sandbox>, Vec<u16>),
}

impl Request {
    pub(super) fn path(&self) -> &'static str {
        match self {
            Request::Exec(..) => "exec",
            Request::Attach(..) => "attach",
            Request::PortForward(..) => "portforward",
        }
    }
}

/// Gives out URLs, each good for one client within a minute.
pub struct Urls {
    base: String,
    tokens: Tokens<Request>,
}

impl Urls {
    pub(super) fn new(base: String) -> Self {
        Self { base, tokens: Tokens::default() }
    }

    /// The URL for a request.
    ///
    /// # Errors
    /// [`Error::TooMany`] where as many wait as may.
    pub fn url(&self, request: Request) -> Result<String, Error> {
        let path = request.path();
        let token = self.tokens.insert(request)?;
        Ok(format!("{}/{path}/{token}", self.base))
    }

    /// Whether a path stands for a request.
    pub(super) fn knows(&self, path: &str) -> bool {
        let parts = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        parts
            .is_some_and(|(kind, token)| self.tokens.is_of(token, |request| request.path() == kind))
    }

    /// The request that a path stands for, which is used up by this.
    pub(super) fn take(&self, path: &str) -> Option<Request> {
        let (kind, token) = path.strip_prefix('/')?.split_once('/')?;
        self.tokens.take(token).filter(|request| request.path() == kind)
    }
}
