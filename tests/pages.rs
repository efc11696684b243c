//! Manual pages and completions, which `criquet-pages` writes for packages, and the pages that
//! name keys of the configuration.

#[path = "../examples/pages/configuration.rs"]
mod configuration;
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

fn doc(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All keys of the configuration, as in `network.bridge`.
fn keys() -> Vec<String> {
    let mut table = String::new();
    let mut keys = Vec::new();
    for line in criquet::cli::config::SAMPLE.lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = format!("{}.", name.trim_end_matches(']'));
        }
        keys.extend(configuration::setting(line).map(|(key, _)| format!("{table}{key}")));
    }
    keys
}

#[test]
fn the_page_of_the_configuration_is_that_of_the_sample() {
    let page = configuration::page();
    assert!(keys().len() > 50 && page.contains("### `root`\n\nDefault: `\"/var/lib/criquet\"`"));
    assert!(
        doc("configuration.md") == page,
        "docs/configuration.md is stale: cargo run --features pages --bin criquet-pages -- \
         --configuration docs/configuration.md"
    );
}

#[test]
fn the_page_about_moving_names_every_key_and_no_other() {
    let page = doc("migrate.md");
    let keys = keys();
    let missing: Vec<_> = keys.iter().filter(|key| !page.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "docs/migrate.md does not tell of {missing:?}");
    // The last column but one of a table with three names ours.
    let mut named = 0;
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let ours = line.split('|').nth(2).unwrap_or_default();
        for name in ours.split('`').skip(1).step_by(2).filter(|name| !name.contains([' ', '/'])) {
            named += 1;
            assert!(keys.iter().any(|key| key == name), "no key is called {name}: {line}");
        }
    }
    assert!(named > 30, "{named}");
}
