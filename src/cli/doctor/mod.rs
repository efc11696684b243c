//! `criquet doctor`: what is on the machine and belongs to no pod.
//!
//! A thing is a stranger if it was there before the daemon was asked what it knows, is still
//! there afterwards, and has no owner in the answer, several times over: what comes is known
//! before it is there or while a call makes it, and what goes is soon gone.

mod error;
mod look;
mod processes;
mod remove;
mod thing;

use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::ExitCode,
    sync::Arc,
    thread::sleep,
    time::Duration,
};

use clap::Args;

use super::{
    Error as CommandError,
    config::Config,
    file::Places,
    image::{self, Client, args::Output},
    output::print,
    serve,
};
use crate::{
    admin::{
        inventory,
        v1::{InventoryRequest, InventoryResponse},
    },
    image::recorded_layers,
    network::Network,
    pod::Known,
    store::Database,
};
pub use error::Error;
use thing::{Accounts, Thing};

/// How often it is looked as long as there are strangers, and the pause before each other look.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(400);

/// Nobody answers, as init scripts say it.
const NOT_RUNNING: u8 = 3;

/// `criquet doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 nothing is there that belongs to nobody, 1 something is, \
                        3 no daemon answers and nothing was found.")]
pub struct Doctor {
    /// Remove what is found; asks before it does
    #[arg(long)]
    pub remove: bool,
    /// Do not ask
    #[arg(short, long, requires = "remove")]
    pub yes: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// The daemon.
    #[command(flatten)]
    pub places: Places,
    /// The daemon's socket, instead of the configured one
    #[arg(long, value_name = "unix://PATH")]
    pub listen: Option<String>,
}

/// Where it is asked what has an owner.
struct Patient<'a> {
    config: &'a Config,
    client: Client,
    /// What a daemon that does not run has left.
    records: Option<InventoryResponse>,
}

/// Names strangers, and removes them where that is wanted.
pub(super) fn command(arguments: &Doctor) -> Result<ExitCode, CommandError> {
    let config = arguments.places.load(arguments.listen.as_ref())?;
    let patient = Patient::open(&config)?;
    let strangers = patient.strangers(LOOKS)?;
    let runs = patient.records.is_none();
    print(&match arguments.output {
        Output::Table => table(&strangers),
        Output::Json => json(&strangers, runs),
    })?;
    if !runs {
        eprintln!(
            "criquet: no daemon answers at {}; this is what its records say",
            config.socket().display()
        );
    }
    if strangers.is_empty() {
        return Ok(if runs { ExitCode::SUCCESS } else { ExitCode::from(NOT_RUNNING) });
    }
    if !arguments.remove {
        return Ok(ExitCode::FAILURE);
    }
    if !runs {
        return Err(Error::NotAlone { socket: config.socket().to_owned() }.into());
    }
    if !arguments.yes && !is_agreed(strangers.len())? {
        return Ok(ExitCode::FAILURE);
    }
    // Much may have happened while somebody was thinking.
    let still = patient.strangers(1)?;
    let (strangers, others): (Vec<_>, Vec<_>) =
        strangers.into_iter().partition(|thing| still.iter().any(|one| one.is_same(thing)));
    for thing in others {
        eprintln!("criquet: {} {} is left alone, as it has changed", thing.what, thing.place);
    }
    Ok(match remove::all(&patient.client, strangers) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

impl<'a> Patient<'a> {
    fn open(config: &'a Config) -> Result<Self, Error> {
        let mut patient = Self { config, client: Client::new(config)?, records: None };
        match patient.ask() {
            Ok(_) => {}
            Err(image::Error::NoDaemon { .. }) => patient.records = Some(records(config)?),
            Err(error) => return Err(error.into()),
        }
        Ok(patient)
    }

    fn ask(&self) -> Result<InventoryResponse, image::Error> {
        match &self.records {
            Some(records) => Ok(records.clone()),
            None => self.client.ask(self.client.admin().inventory(InventoryRequest {})),
        }
    }

    /// What is there and belongs to nobody, so often as it is looked.
    fn strangers(&self, looks: u32) -> Result<Vec<Thing>, Error> {
        let mut strangers = self.look()?;
        for _ in 1..looks {
            if strangers.is_empty() {
                break;
            }
            sleep(PAUSE);
            let now = self.look()?;
            strangers.retain(|thing| now.iter().any(|one| one.is_same(thing)));
        }
        strangers.sort_by(|one, other| {
            (one.removal.turn(), &one.place).cmp(&(other.removal.turn(), &other.place))
        });
        Ok(strangers)
    }

    fn look(&self) -> Result<Vec<Thing>, Error> {
        let mut known = Accounts::of(self.ask()?);
        let before = look::everything(self.config, &known);
        let suspects: Vec<Thing> = before.into_iter().filter(|thing| !known.has(thing)).collect();
        // Without anybody to suspect, what the daemon has said is all there is.
        let mut strangers = Vec::new();
        if !suspects.is_empty() {
            known = Accounts::of(self.ask()?);
            let after = look::everything(self.config, &known);
            strangers = suspects;
            strangers
                .retain(|thing| !known.has(thing) && after.iter().any(|one| one.is_same(thing)));
        }
        strangers.extend(known.strays());
        Ok(strangers)
    }
}

/// What a daemon that does not run has recorded. A daemon that uses the root and listens
/// elsewhere is another matter.
fn records(config: &Config) -> Result<InventoryResponse, Error> {
    let path = config.root.join("state.db");
    if !path.exists() {
        return Ok(InventoryResponse::default());
    }
    // Held for a moment: a daemon that starts meanwhile waits that long.
    drop(serve::lock_root(&config.root).map_err(Box::new)?);
    let database = Arc::new(Database::open_to_read(&path)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(image::Error::Runtime)?;
    let known = runtime.block_on(Known::read(&database))?;
    let layers = recorded_layers(&database).map_err(image::Error::from)?;
    let sandboxes = inventory::sandboxes_of(&known);
    let strays = Network::strays_alone(config.network_options(), database, &sandboxes)?;
    Ok(inventory::of(&known, layers, strays))
}

fn is_agreed(count: usize) -> Result<bool, CommandError> {
    if !io::stdin().is_terminal() {
        return Err(Error::Unasked.into());
    }
    print(&format!("Remove {}? [y/N] ", things(count)))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(CommandError::Output)?;
    io::stdout().flush().map_err(CommandError::Output)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn things(count: usize) -> String {
    if count == 1 { "1 thing".to_owned() } else { format!("{count} things") }
}

/// A line for each: what, where, why, and what makes it go.
fn table(strangers: &[Thing]) -> String {
    if strangers.is_empty() {
        return "Nothing is here that belongs to no pod.\n".to_owned();
    }
    let mut text = String::new();
    for thing in strangers {
        let shown = thing.shown();
        let (what, place) = (shown.what, shown.place);
        text.push_str(&format!("{what:<9}  {place}  {} -> {}\n", shown.why, shown.removal));
    }
    text.push_str(&format!(
        "\n{} belonging to no pod; criquet doctor --remove removes them.\n",
        things(strangers.len())
    ));
    text
}

fn json(strangers: &[Thing], daemon: bool) -> String {
    let shown: Vec<_> = strangers.iter().map(Thing::shown).collect();
    format!("{:#}\n", serde_json::json!({ "daemon": daemon, "strangers": shown }))
}
