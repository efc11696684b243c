//! `criquet image pull` and `criquet image pulls`.

use std::io::{self, BufRead, IsTerminal};

use super::{
    Client, Error,
    args::Pull as Arguments,
    bars::{Bars, Lines, Quiet, Show},
    list::{size, table},
};
use crate::admin::v1::{
    LayerState, ListPullsRequest, Pull, PullImageRequest, pull_image_response::Event,
};

/// Pulls an image and returns its id on a line.
pub(super) fn pull(client: &Client, arguments: &Arguments) -> Result<String, Error> {
    let (username, password) = credentials(arguments)?;
    let request = PullImageRequest { image: arguments.image.clone(), username, password };
    let mut show: Box<dyn Show> = match (arguments.quiet, io::stderr().is_terminal()) {
        (true, _) => Box::new(Quiet),
        (false, true) => Box::new(Bars::default()),
        (false, false) => Box::new(Lines::default()),
    };
    let id = client.wait(async {
        let mut stream = client.admin().pull_image(request).await?.into_inner();
        while let Some(message) = stream.message().await? {
            match message.event {
                Some(Event::Progress(progress)) => show.progress(&progress),
                Some(Event::Id(id)) => return Ok(id),
                None => {}
            }
        }
        Err(tonic::Status::internal("the pull ended without an answer"))
    });
    show.end(id.is_ok());
    Ok(format!("{}\n", id?))
}

/// A line for each pull that is under way.
pub(super) fn list(client: &Client) -> Result<String, Error> {
    let pulls = client.ask(client.admin().list_pulls(ListPullsRequest {}))?.pulls;
    Ok(pulls_table(&pulls))
}

/// Pulls in columns.
pub(in crate::cli) fn pulls_table(pulls: &[Pull]) -> String {
    let heading = ["IMAGE", "LAYERS", "FETCHED", "UNPACKED", "TOTAL"].map(str::to_owned);
    let rows = [heading.to_vec()].into_iter().chain(pulls.iter().map(row));
    table(&rows.collect::<Vec<_>>())
}

fn row(pull: &Pull) -> Vec<String> {
    let is_done = |state| matches!(state, LayerState::Complete | LayerState::Present);
    let done = pull.layers.iter().filter(|layer| is_done(layer.state())).count();
    let fetched = pull.layers.iter().map(|layer| layer.fetched).sum();
    let unpacked = pull.layers.iter().map(|layer| layer.unpacked).sum();
    let total = pull.layers.iter().map(|layer| layer.size).sum();
    let layers = format!("{done}/{}", pull.layers.len());
    vec![pull.image.clone(), layers, size(fetched), size(unpacked), size(total)]
}

fn credentials(arguments: &Arguments) -> Result<(String, String), Error> {
    let mut line = String::new();
    let text = match &arguments.creds {
        Some(text) => text,
        None if arguments.creds_stdin => {
            io::stdin().lock().read_line(&mut line).map_err(Error::Input)?;
            line.trim_end_matches(['\r', '\n'])
        }
        None => return Ok(Default::default()),
    };
    let (username, password) = text.split_once(':').ok_or(Error::Credentials)?;
    Ok((username.to_owned(), password.to_owned()))
}
