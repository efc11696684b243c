//! The log: lines on standard error, for journald or a terminal.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, reload::Handle};

/// Changes what is logged.
pub(super) type SetLevel = Box<dyn Fn(&str) + Send + Sync>;

/// Starts to log what is at least this important. Where journald listens, it adds the time.
pub(super) fn start(level: &str) -> SetLevel {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    // Another log that was started before, as in a test, stays.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        let builder = builder.without_time().with_filter_reloading();
        let handle = builder.reload_handle();
        let _ = builder.try_init();
        changer(handle)
    } else {
        let builder = builder.with_filter_reloading();
        let handle = builder.reload_handle();
        let _ = builder.try_init();
        changer(handle)
    }
}

fn changer<S: 'static>(handle: Handle<EnvFilter, S>) -> SetLevel {
    Box::new(move |level| {
        // It is there for as long as the process.
        let _ = handle.reload(filter(level));
    })
}

fn filter(level: &str) -> EnvFilter {
    EnvFilter::try_new(directives(level)).unwrap_or_else(|_| EnvFilter::new("info"))
}

/// A level alone is about Criquet: what the libraries say of every frame on every connection
/// is there for those who ask for it by name.
fn directives(level: &str) -> String {
    match level {
        "debug" | "trace" => format!("info,criquet={level}"),
        other => other.to_owned(),
    }
}
