//! The connection to systemd: calls of its manager, and the ends of its jobs.
//!
//! systemd answers a call that starts or stops a unit with a job, and tells the end of each
//! job with the signal `JobRemoved` (`org.freedesktop.systemd1(5)`). Whoever waits for one
//! says so before the call, since the signal may be there before the answer.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};
use zbus::{
    Connection, DBusError as _, DynamicType, MatchRule, MessageStream, OwnedObjectPath,
    OwnedVariant, Type, connection::Builder, fdo, message,
};

use super::Error;

const SERVICE: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// How long the bus may take to take a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Signals that may wait to be looked at.
const SIGNALS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// The way to systemd, connected or not.
#[derive(Debug)]
pub(super) struct Bus {
    /// Another bus than the system's.
    address: Option<String>,
    /// Held while a connection is made: whoever comes meanwhile wants the same one.
    current: tokio::sync::Mutex<Option<Arc<Link>>>,
}

impl Bus {
    pub(super) fn new(address: Option<String>) -> Self {
        Self { address, current: tokio::sync::Mutex::default() }
    }

    /// The connection that there is, or a new one.
    pub(super) async fn link(&self) -> Result<Arc<Link>, Error> {
        let mut current = self.current.lock().await;
        if let Some(link) = current.as_ref().filter(|link| link.is_open()) {
            return Ok(Arc::clone(link));
        }
        *current = None;
        let connecting = timeout(CONNECT_LIMIT, Link::connect(self.address.as_deref()));
        let link = connecting.await.unwrap_or(Err(Error::TooSlow(CONNECT_LIMIT)))?;
        Ok(Arc::clone(current.insert(Arc::new(link))))
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    connection: Connection,
    jobs: Arc<Jobs>,
    listener: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Link {
    async fn connect(address: Option<&str>) -> Result<Self, Error> {
        let unreachable = |error: zbus::Error| Error::Unreachable(error.to_string());
        let builder = address.map_or_else(Builder::system, Builder::address);
        let connection = builder.build().await.map_err(unreachable)?;
        // Anybody may send a signal of this name; the bus holds the sender against the rule.
        let rule = MatchRule::builder()
            .msg_type(message::Type::Signal)
            .sender(SERVICE)
            .path(PATH)
            .interface(MANAGER)
            .member("JobRemoved")
            .build()
            .map_err(unreachable)?;
        let stream = MessageStream::for_match_rule(rule, &connection, Some(SIGNALS));
        let stream = stream.await.map_err(unreachable)?;
        let jobs = Arc::new(Jobs::default());
        let listener = tokio::spawn(listen(stream, Arc::clone(&jobs)));
        let link = Self { connection, jobs, listener };
        // Without it systemd sends no signals at all.
        link.call("Subscribe", &()).await?;
        Ok(link)
    }

    fn is_open(&self) -> bool {
        !self.listener.is_finished() && !self.connection.is_closed()
    }

    /// Calls a method of the manager.
    pub(super) async fn call<B>(&self, method: &'static str, body: &B) -> Result<(), Error>
    where
        B: Serialize + DynamicType + Sync,
    {
        self.message(PATH, MANAGER, method, body).await.map(drop)
    }

    /// The same, for its answer.
    pub(super) async fn ask<B, A>(&self, method: &'static str, body: &B) -> Result<A, Error>
    where
        B: Serialize + DynamicType + Sync,
        A: DeserializeOwned + Type,
    {
        let answer = self.message(PATH, MANAGER, method, body).await?;
        let body = answer.body();
        body.deserialize_ignore_signature().map_err(|error| Error::Answer(error.to_string()))
    }

    /// A property of the manager.
    pub(super) async fn property(&self, name: &str) -> Result<OwnedVariant, Error> {
        self.property_at(PATH, MANAGER, name).await
    }

    /// A property of a unit, by the interface of its kind.
    pub(super) async fn property_of(
        &self,
        unit: &OwnedObjectPath,
        interface: &str,
        name: &str,
    ) -> Result<OwnedVariant, Error> {
        self.property_at(unit.as_str(), interface, name).await
    }

    async fn property_at(
        &self,
        path: &str,
        interface: &str,
        name: &str,
    ) -> Result<OwnedVariant, Error> {
        let properties = "org.freedesktop.DBus.Properties";
        let answer = self.message(path, properties, "Get", &(interface, name)).await?;
        let body = answer.body();
        body.deserialize_ignore_signature().map_err(|error| Error::Answer(error.to_string()))
    }

    async fn message<B>(
        &self,
        path: &str,
        interface: &'static str,
        method: &'static str,
        body: &B,
    ) -> Result<zbus::Message, Error>
    where
        B: Serialize + DynamicType + Sync,
    {
        let call = self.connection.call_method(Some(SERVICE), path, Some(interface), method, body);
        call.await.map_err(|error| error_of(method, error))
    }

    /// The end of the next job of a unit, from now on. An error stands for a lost connection.
    pub(super) fn end_of_job(&self, unit: &str) -> oneshot::Receiver<String> {
        let (sender, receiver) = oneshot::channel();
        let mut jobs = self.jobs.lock();
        if !self.listener.is_finished() {
            jobs.insert(unit.to_owned(), sender);
        }
        receiver
    }

    /// Nobody waits for one any more.
    pub(super) fn forget_job(&self, unit: &str) {
        self.jobs.lock().remove(unit);
    }
}

/// Who waits for the end of a job, by the job's unit.
#[derive(Debug, Default)]
struct Jobs(Mutex<HashMap<String, oneshot::Sender<String>>>);

impl Jobs {
    // Held for a look.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn listen(mut stream: MessageStream, jobs: Arc<Jobs>) {
    while let Some(Ok(message)) = stream.next().await {
        let body = message.body();
        let job = body.deserialize::<(u32, OwnedObjectPath, String, String)>();
        // A signal of another shape is none of those that are waited for.
        let Ok((_, _, unit, result)) = job else { continue };
        if let Some(waiter) = jobs.lock().remove(&unit) {
            // Who waited may have given up.
            let _ = waiter.send(result);
        }
    }
    // Nothing is heard of any of them any more.
    jobs.lock().clear();
}

/// What was wrong with a call: the way to systemd, or what was asked for.
fn error_of(method: &'static str, error: zbus::Error) -> Error {
    let refused = |name: &str, message: Option<&str>| Error::Refused {
        what: method,
        name: name.to_owned(),
        message: message.unwrap_or("no reason given").to_owned(),
    };
    match error {
        zbus::Error::MethodError(name, message, _) => refused(name.as_str(), message.as_deref()),
        zbus::Error::FDO(error) => match *error {
            fdo::Error::ServiceUnknown(_)
            | fdo::Error::NameHasNoOwner(_)
            | fdo::Error::NoReply(_)
            | fdo::Error::NoServer(_)
            | fdo::Error::Disconnected(_)
            | fdo::Error::TimedOut(_)
            | fdo::Error::Timeout(_) => Error::Unreachable(error.to_string()),
            error => refused(error.name().as_str(), error.description()),
        },
        error => Error::Unreachable(error.to_string()),
    }
}
