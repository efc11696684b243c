//! Where in the kernel a thread or process is, for those who wonder why something hangs.

use std::{fs, time::Duration};

use tokio::{task::spawn_blocking, time::timeout};

/// How long the kernel may take to tell: it waits itself for a process that executes a program.
const LIMIT: Duration = Duration::from_secs(1);

/// Frames of a stack that are told.
const FRAMES: usize = 12;

/// The state, the function that it sleeps in and the kernel's stack of a process (proc_pid(5)),
/// as far as they can be had.
pub(super) async fn place_of(process: u32) -> String {
    let read = spawn_blocking(move || read(process));
    match timeout(LIMIT, read).await {
        Ok(Ok(words)) => words,
        _ => format!("the kernel does not tell of process {process}"),
    }
}

fn read(process: u32) -> String {
    let text = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}"));
    let Ok(stat) = text("stat") else { return format!("process {process} has ended") };
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('?');
    let function = text("wchan").unwrap_or_default();
    let stack = text("stack").unwrap_or_default();
    // Each line is "[<0>] function+0x11/0x22".
    let frames = stack.lines().filter_map(|line| line.split_whitespace().nth(1));
    let frames: Vec<&str> =
        frames.map(|frame| frame.split('+').next().unwrap_or(frame)).take(FRAMES).collect();
    let mut words = format!("process {process} in state {state}");
    if !function.is_empty() && function != "0" {
        words.push_str(&format!(" in {function}"));
    }
    if !frames.is_empty() {
        words.push_str(&format!(": {}", frames.join(" < ")));
    }
    words
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn a_sleeping_process_has_a_place_and_one_that_is_gone_has_none() {
        let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let words = super::place_of(sleeper.id()).await;
        sleeper.kill().unwrap();
        assert!(words.starts_with(&format!("process {} in state", sleeper.id())), "{words}");
        sleeper.wait().unwrap();
        let words = super::place_of(sleeper.id()).await;
        assert!(words.ends_with("has ended"), "{words}");
    }
}
