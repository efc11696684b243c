//! `criquet run` and `criquet stop`: a pod from a manifest, without a cluster.
//!
//! `play` says what is to be made; here it is made, over the CRI alone, on a daemon that runs or
//! on one of its own, and looked after as a kubelet does.

pub mod args;
mod ask;
mod background;
mod backoff;
mod daemon;
mod error;
mod events;
mod facts;
mod images;
mod life;
mod pod;
mod sandbox;
mod say;
mod shared;
mod stop;
mod supervise;
mod volumes;

use std::{
    fs,
    io::{self, Read},
    path::Path,
    process::ExitCode,
};

use super::{
    Error,
    config::Config,
    image::{self, Client},
    output,
};
use crate::{
    admin::v1::ImportImagesRequest,
    cri::v1::VersionRequest,
    play::{Manifest, Plan},
};
use args::{Place, Run};
pub use error::Error as RunError;
pub(super) use stop::stop;

/// The sandbox's label that says whose it is.
const LABEL: &str = "io.criquet.run";
/// Its annotation with the process that looks after it: its id, and when it was started.
const SUPERVISOR: &str = "io.criquet.run/supervisor";
/// Its annotation with the directory of its volumes and logs.
const DIRECTORY: &str = "io.criquet.run/directory";

/// Runs a pod to its end, or until it is to end.
pub(super) fn run(arguments: &Run) -> Result<ExitCode, Error> {
    let text = read(&arguments.manifest)?;
    let wrong = |source| RunError::Manifest { path: arguments.manifest.clone(), source };
    let manifest = Manifest::read(&text).map_err(wrong)?;
    let facts = facts::of_node(&manifest, &arguments.place.directory)?;
    // All that is wrong is found before anything is made.
    let plan = Plan::of(&manifest, &facts).map_err(wrong)?;
    if arguments.check {
        let notes = plan.notes.iter().map(|note| format!("-- {note}\n"));
        let text: String = notes.collect();
        let name = format!("{}/{}", plan.namespace, plan.name);
        output::print(&format!("{text}pod {name} can be run\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.detach && !arguments.background {
        return background::start(arguments, &text, &plan);
    }
    let (client, is_own) = connect(&arguments.place)?;
    if is_own {
        let socket = arguments.place.directory.join("criquet.sock");
        let look = format!("criquet ps --listen unix://{}", socket.display());
        output::print(&format!("-- on a daemon of its own; `{look}` shows what runs there\n"))?;
    }
    let done = import(&client, arguments).and_then(|()| {
        let pod = supervise::Pod { manifest, facts, plan, is_background: arguments.background };
        client.wait(async { Ok(supervise::run(&client, pod).await) })?.map_err(Error::from)
    });
    if is_own {
        let ended = daemon::end(&arguments.place.directory, client);
        return done.and_then(|code| ended.map(|()| code)).map(ExitCode::from);
    }
    done.map(ExitCode::from)
}

fn read(path: &Path) -> Result<String, RunError> {
    let mut text = String::new();
    if path == Path::new("-") {
        io::stdin().read_to_string(&mut text).map_err(RunError::io("read", path))?;
        return Ok(text);
    }
    fs::read_to_string(path).map_err(RunError::io("read", path))
}

/// The daemon that answers, or one of its own; whether it is that.
fn connect(place: &Place) -> Result<(Client, bool), Error> {
    let node = &place.node;
    let config = Config::load_with(node.file.config.as_deref(), &node.overrides())?;
    if !place.own {
        let client = Client::new(&config)?;
        let asked = client.ask(client.pods().version(VersionRequest::default()));
        match asked {
            Ok(_) => return Ok((client, false)),
            Err(image::Error::NoDaemon { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let own = daemon::start(&place.directory, &config)?;
    Ok((Client::new(&own)?, true))
}

fn import(client: &Client, arguments: &Run) -> Result<(), Error> {
    for archive in &arguments.import {
        let path = fs::canonicalize(archive).map_err(RunError::io("open", archive))?;
        let request =
            ImportImagesRequest { path: path.display().to_string(), ..Default::default() };
        client.ask(client.admin().import_images(request))?;
    }
    Ok(())
}
