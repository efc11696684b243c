//! Manual pages and completions, which `criquet-pages` writes for packages.

#[path = "../examples/pages/pages.rs"]
mod pages;

use std::{collections::BTreeMap, fs, path::Path};

use clap::Command;

fn read_all(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// The command and all below it.
fn commands(command: &Command) -> Vec<Command> {
    let inner = command.get_subcommands().flat_map(commands);
    std::iter::once(command.clone()).chain(inner).collect()
}

#[test]
fn each_command_has_a_page_that_tells_of_all_its_options() {
    let directory = tempfile::tempdir().unwrap();
    pages::write(directory.path()).unwrap();
    let found = read_all(&directory.path().join("man"));
    let commands = commands(&pages::command());
    assert!(commands.len() > 15, "{}", commands.len());
    assert_eq!(found.len(), commands.len(), "{:?}", found.keys());
    for command in commands {
        let name = format!("{}.{}", pages::page_of(&command), pages::SECTION);
        let page = found.get(&name).unwrap_or_else(|| panic!("there is no {name}"));
        // A hyphen is written with a backslash.
        let page = page.replace('\\', "");
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            if let Some(long) = argument.get_long() {
                assert!(page.contains(&format!("--{long}")), "{name} does not tell of --{long}");
            }
        }
    }
}

#[test]
fn shells_complete_every_command() {
    let directory = tempfile::tempdir().unwrap();
    pages::write(directory.path()).unwrap();
    for (shell, file) in [("bash", "criquet.bash"), ("zsh", "_criquet"), ("fish", "criquet.fish")] {
        let text = fs::read_to_string(directory.path().join(shell).join(file)).unwrap();
        for command in commands(&pages::command()) {
            let name = command.get_name();
            assert!(text.contains(name), "{file} does not know {name}");
        }
    }
}
