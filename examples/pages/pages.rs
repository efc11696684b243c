//! One manual page for each command, and completions for three shells.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;
use criquet::cli::args::Arguments;

/// Commands of system administrators.
pub const SECTION: &str = "8";

/// The whole command line, each command with its full name.
pub fn command() -> Command {
    let mut command = Arguments::command();
    command.build();
    command
}

/// Writes all pages and completions below `directory`, which is made where it is missing.
///
/// # Errors
/// What the file system refuses.
pub fn write(directory: &Path) -> io::Result<()> {
    let man = directory.join("man");
    fs::create_dir_all(&man)?;
    write_man(command(), &man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let place = directory.join(shell.to_string());
        fs::create_dir_all(&place)?;
        generate_to(shell, &mut Arguments::command(), "criquet", &place)?;
    }
    Ok(())
}

fn write_man(command: Command, directory: &Path) -> io::Result<()> {
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        write_man(inner.clone(), directory)?;
    }
    let path = directory.join(format!("{}.{SECTION}", page_of(&command)));
    let source = concat!("criquet ", env!("CARGO_PKG_VERSION"));
    // Without a date: the same program has the same pages.
    let man = Man::new(command).section(SECTION).source(source).manual("Criquet");
    man.render(&mut File::create(path)?)
}

/// The name of a command's page, as in `criquet-image-pull`.
pub fn page_of(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}
