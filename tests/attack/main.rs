//! Attacks, class by class: what a container tries in order to be more than it is, or to reach
//! what is not its own. docs/threat-model.md names the classes.

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod daemon_state;
mod decompress;
mod descriptors;
mod devices;
mod files;
mod keyring;
mod masks;
mod monitor;
mod pod_init;
mod refusals;
mod requests;
mod tokens;
mod window;

/// The program that runs scripts of Python, wherever this machine has it.
fn python() -> String {
    let show = ["-c", "import os, sys; print(os.path.realpath(sys.executable))"];
    let output = std::process::Command::new("python3").args(show).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
