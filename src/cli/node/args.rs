//! What the commands for people on a node may be told.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::image::args::{Node, Output};

/// How commands say that nobody answers.
const EXIT_CODES: &str = "Exit codes: 0 all is well, 1 something is not, 3 no daemon answers.";

/// `criquet ps`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Ps {
    /// Also pods and containers that have ended
    #[arg(short, long)]
    pub all: bool,
    /// Which pods.
    #[command(flatten)]
    pub pods: Pods,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// The node.
    #[command(flatten)]
    pub node: Node,
}

/// Which pods are shown.
#[derive(Debug, Default, Args)]
pub struct Pods {
    /// Only pods of this namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Only pods with this label
    #[arg(short = 'l', long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<String>,
    /// Only pods whose namespace/name contains this, or whose id begins so
    #[arg(value_name = "POD")]
    pub name: Option<String>,
}

/// `criquet top`.
#[derive(Debug, Args)]
#[command(after_help = "Keys: q ends, c sorts by processor, m by memory, n by name.\n\
                        Exit codes: 0 all is well, 1 something is not, 3 no daemon answers.")]
pub struct Top {
    /// Print once, as text
    #[arg(long)]
    pub once: bool,
    /// What comes first
    #[arg(short, long, value_enum, default_value_t = Order::Cpu)]
    pub sort: Order,
    /// Which pods.
    #[command(flatten)]
    pub pods: Pods,
    /// The node.
    #[command(flatten)]
    pub node: Node,
}

/// An order of pods and of the containers in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// Who uses most processor time
    Cpu,
    /// Who uses most memory
    Memory,
    /// By namespace and name
    Name,
}

/// `criquet inspect`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Inspect {
    /// A pod or a container: its name, NAMESPACE/NAME, POD/CONTAINER, or the beginning of its id
    #[arg(value_name = "POD|CONTAINER")]
    pub name: String,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// The node.
    #[command(flatten)]
    pub node: Node,
}

/// `criquet logs`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Logs {
    /// A container: its name, POD/CONTAINER, NAMESPACE/POD/CONTAINER, or the beginning of its
    /// id; a pod where that has one container
    #[arg(value_name = "CONTAINER")]
    pub name: String,
    /// Go on with what is logged from now on, until the container ends
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    pub tail: Option<usize>,
    /// Only lines since then: so long ago (10m, 1h30m), or a time (2026-01-31T12:00:00Z)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Of the container that was there before its last restart
    #[arg(short, long, conflicts_with = "follow")]
    pub previous: bool,
    /// With the time of each line
    #[arg(short, long)]
    pub timestamps: bool,
    /// The node.
    #[command(flatten)]
    pub node: Node,
}

/// `criquet exec`.
#[derive(Debug, Args)]
#[command(after_help = "The exit code is that of the command; 3 where no daemon answers.")]
pub struct Exec {
    /// Let the command read standard input
    #[arg(short = 'i', long = "stdin")]
    pub stdin: bool,
    /// Give the command a terminal
    #[arg(short = 't', long = "tty")]
    pub terminal: bool,
    /// A container that runs: its name, POD/CONTAINER, NAMESPACE/POD/CONTAINER, or the beginning
    /// of its id; a pod where that has one container
    #[arg(value_name = "CONTAINER")]
    pub name: String,
    /// The command and its arguments, best after --
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
    /// The certificate to show to a streaming server with streaming.tls_client_ca_file
    #[arg(long, value_name = "FILE", requires = "client_key")]
    pub client_cert: Option<PathBuf>,
    /// The key of that certificate
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    pub client_key: Option<PathBuf>,
    /// The node.
    #[command(flatten)]
    pub node: Node,
}
