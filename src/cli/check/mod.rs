//! `criquet check`: what this node offers and lacks, and how to mend it.
//!
//! Entry point: `command`. What can be tried is tried, in children, threads and directories
//! that are gone afterwards; a version number alone says little about a kernel.

mod cgroups;
mod disk;
mod finding;
mod isolation;
mod kernel;
mod limits;
mod mounts;
mod namespaces;
mod network;
mod report;
mod settings;

use std::{path::Path, process::ExitCode};

use super::{Error, config::Config, output::print};
use crate::{image, sys::clone::SingleThreaded};
pub use finding::{Finding, Status};

/// Prints the findings. The exit code is 1 where something that is required fails.
pub(super) fn command(config: &Config, json: bool) -> Result<ExitCode, Error> {
    let mut findings = survey(config);
    // A thread feeds it, and no child can be made beside that.
    findings.push(decompressor(config));
    print(&if json { report::json(&findings) } else { report::table(&findings) })?;
    let failed = findings.iter().any(|finding| finding.status == Status::Fail);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Looks at everything. Children can only be made while this process has one thread.
fn survey(config: &Config) -> Vec<Finding> {
    let mut findings = kernel::survey();
    let (namespaces, user_namespace) = namespaces::survey();
    findings.extend(namespaces);
    findings.extend(kernel::survey_security());
    findings.extend(isolation::survey(&config.security));
    findings.extend(settings::survey());
    findings.extend(limits::survey(Path::new("/proc")));
    findings.extend(cgroups::survey(config.cgroup_driver));
    let place = disk::Place::of(&config.root);
    findings.extend(disk::survey(config, &place));
    findings.extend(mounts::survey(&place, user_namespace));
    findings.extend(network::survey(&config.network_options()));
    findings.push(monitor(config));
    findings
}

/// Whether pods can have user namespaces, with files below this directory: tried with a child,
/// which can only be made while this process has one thread.
pub(super) fn has_user_namespaces(root: &Path) -> bool {
    let existing = root.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let namespace = SingleThreaded::prove().and_then(|proof| namespaces::user_namespace(&proof));
    namespace.and_then(|namespace| mounts::try_idmap(existing, &namespace)).is_ok()
}

fn monitor(config: &Config) -> Finding {
    let what = "monitor program";
    match config.monitor_program() {
        Ok(path) if path.is_file() => Finding::ok(what, path.display()),
        Ok(path) => Finding::fail(
            what,
            format!("monitor_path is {} and there is no such file", path.display()),
            "install criquet-monitor there, or correct monitor_path",
        ),
        Err(error) => Finding::fail(what, "not found", error),
    }
}

/// Layers of strangers are decompressed in a process without rights.
fn decompressor(config: &Config) -> Finding {
    let what = "decompression";
    let mend = "images cannot be pulled or imported; run as root of the machine, on a kernel of \
                5.15 or later with seccomp";
    match config.image_options().decompressor {
        Some(program) => Finding::required(what, image::try_worker(&program), mend),
        None => Finding::ok(what, "in the daemon itself"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Status, survey};
    use crate::cli::config::Config;

    /// As a test of this process, which has many threads, it cannot make children; the rest
    /// must come to a verdict on any machine.
    #[test]
    fn a_survey_comes_to_an_end_and_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let config = Config { root: root.path().join("not/there"), ..Config::default() };
        let findings = survey(&config);
        assert!(findings.len() > 20);
        for finding in &findings {
            assert_eq!(finding.status == Status::Ok, finding.mend.is_empty(), "{finding:?}");
            assert!(!finding.found.is_empty(), "{finding:?}");
        }
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
