//! The log: lines on standard error, for journald or a terminal.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// Starts to log what is at least this important. Where journald listens, it adds the time.
pub(super) fn start(level: &str) {
    let filter = EnvFilter::try_new(directives(level)).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    // Another log that was started before, as in a test, stays.
    let _ = if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.without_time().try_init()
    } else {
        builder.try_init()
    };
}

/// A level alone is about Criquet: what the libraries say of every frame on every connection
/// is there for those who ask for it by name.
fn directives(level: &str) -> String {
    match level {
        "debug" | "trace" => format!("info,criquet={level}"),
        other => other.to_owned(),
    }
}
