//! What the command line may say.

use clap::{Args, Parser, Subcommand};

use super::{
    doctor::Doctor,
    file::{File, Places},
    image::args::{Image, Node, Output},
    network::Network,
    node::args::{Exec, Inspect, Logs, Ps, Top},
    reset::Reset,
    run::args::{Run, Stop},
};

/// A Kubernetes CRI runtime with the container runtime inside.
#[derive(Debug, Parser)]
#[command(name = "criquet", version, about, disable_help_subcommand = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the CRI until SIGTERM; pods run on afterwards
    Serve(Serve),
    /// Show what this node offers and lacks, and how to mend it
    Check(Check),
    /// Name what is left on this node and belongs to no pod, and remove it
    Doctor(Doctor),
    /// Show or validate the configuration
    #[command(subcommand)]
    Config(Config),
    /// Run a pod from a manifest of Kubernetes, without a cluster
    Run(Run),
    /// End a pod that was run
    Stop(Stop),
    /// Show pods and containers as a tree, with what they use
    Ps(Ps),
    /// The same, drawn again each second
    Top(Top),
    /// Tell all that is known of a pod or a container
    Inspect(Inspect),
    /// Print what a container says and has said
    Logs(Logs),
    /// Run a command in a container
    Exec(Exec),
    /// Show how a running daemon is and what it is doing
    Status(Status),
    /// Print the figures of a running daemon for Prometheus
    Metrics(Node),
    /// Work on the image store
    #[command(subcommand)]
    Image(Image),
    /// Look at networks, and remove the built-in one
    #[command(subcommand)]
    Network(Network),
    /// End all pods and remove the built-in network, for a node that Criquet leaves
    Reset(Reset),
}

/// `criquet serve`.
#[derive(Debug, Default, Args)]
pub struct Serve {
    /// The daemon.
    #[command(flatten)]
    pub places: Places,
    /// The socket to serve on, instead of the configured one
    #[arg(long, value_name = "unix://PATH")]
    pub listen: Option<String>,
}

/// `criquet check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The configuration.
    #[command(flatten)]
    pub file: File,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `criquet status`.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 all is well, 1 something is not, 3 no daemon answers.")]
pub struct Status {
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// The node.
    #[command(flatten)]
    pub node: Node,
}

/// `criquet config`.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Print the default configuration with an explanation of each key
    Default,
    /// Print the configuration as it takes effect
    Dump(File),
    /// Report everything that is wrong with the configuration
    Validate(File),
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Arguments, Command, Config};
    use crate::cli::image::args::{Image, Output};

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn commands() {
        let line = "criquet serve --root /r --state /s --listen unix:///l --config /c";
        let Command::Serve(serve) = Arguments::parse_from(line.split(' ')).command else {
            panic!("{line}");
        };
        assert_eq!(serve.places.file.config.as_deref(), Some("/c".as_ref()));
        assert_eq!(serve.places.overrides().state.as_deref(), Some("/s".as_ref()));
        assert_eq!(serve.listen.as_deref(), Some("unix:///l"));

        let line = "criquet config dump";
        let command = Arguments::parse_from(line.split(' ')).command;
        assert!(matches!(command, Command::Config(Config::Dump(file)) if file.config.is_none()));
        assert!(Arguments::try_parse_from(["criquet", "serve", "extra"]).is_err());

        let line = "criquet status -o json --listen unix:///l";
        let command = Arguments::parse_from(line.split(' ')).command;
        assert!(matches!(command, Command::Status(status)
            if status.output == Output::Json && status.node.listen == Some("unix:///l".into())));
    }

    #[test]
    fn commands_for_people_are_those_that_people_know() {
        let line = "criquet exec -it web/app -- ls -l";
        let command = Arguments::parse_from(line.split(' ')).command;
        assert!(matches!(command, Command::Exec(exec)
            if exec.stdin && exec.terminal && exec.command == ["ls", "-l"]));
        let line = "criquet logs -f --tail 5 --since 10m app";
        let command = Arguments::parse_from(line.split(' ')).command;
        assert!(matches!(command, Command::Logs(logs) if logs.follow && logs.tail == Some(5)));
        for wrong in ["criquet exec app", "criquet logs", "criquet inspect", "criquet logs -fp app"]
        {
            assert!(Arguments::try_parse_from(wrong.split(' ')).is_err(), "{wrong}");
        }
    }

    fn parse_image(line: &str) -> Image {
        match Arguments::try_parse_from(line.split(' ')).expect(line).command {
            Command::Image(command) => command,
            _ => panic!("{line}"),
        }
    }

    #[test]
    fn image_commands_are_those_that_people_know() {
        let line = "criquet image import a.tar --root /r";
        assert!(matches!(parse_image(line), Image::Import(import)
            if import.archive.ends_with("a.tar") && import.node.root == Some("/r".into())));
        assert!(matches!(parse_image("criquet image load -"), Image::Import(_)));
        assert!(matches!(parse_image("criquet image save a b -o -"), Image::Export(export)
            if export.images == ["a", "b"]));
        assert!(matches!(parse_image("criquet image ls -q --digests -o json"), Image::Ls(ls)
            if ls.quiet && ls.digests && ls.output == Output::Json));
        assert!(matches!(parse_image("criquet image rm -f a b"), Image::Rm(rm) if rm.force));
        for wrong in [
            "criquet image rm",
            "criquet image export a",
            "criquet image pull",
            "criquet image pull a --creds u:p --creds-stdin",
        ] {
            assert!(Arguments::try_parse_from(wrong.split(' ')).is_err(), "{wrong}");
        }
    }
}
