//! The status in words, in 80 columns.

use std::fmt::Write;

use super::is_well;
use crate::{
    admin::v1::{Condition, Count, Operation, Pull, StatusResponse},
    cli::{
        image::{self, size},
        paint::Paint,
        text::{WIDTH, cut, duration, short, wrapped},
    },
};

/// Where the values of facts begin.
const INDENT: usize = 14;

/// Columns of the table of calls: what is called, on what, where it is, and since when.
const CALL: usize = 20;
const OBJECT: usize = 24;
const AGE: usize = 6;

/// The name of an image that is pulled.
const IMAGE: usize = 36;

pub(super) fn text(status: &StatusResponse, paint: Paint) -> String {
    let is_well = is_well(status);
    let word = if is_well { "is well" } else { "is not well" };
    let mut text = format!("criquet {} {}\n\n", status.version, paint.mark(word, is_well));
    facts(&mut text, status, paint);
    silent(&mut text, status, paint);
    calls(&mut text, &status.operations, paint);
    pulls(&mut text, &status.pulls);
    text
}

fn facts(text: &mut String, status: &StatusResponse, paint: Paint) {
    let readers = status.subscribers.unwrap_or_default();
    let memory = size(status.memory_bytes);
    let uptime = duration(status.uptime_seconds);
    fact(text, "daemon", &format!("pid {}, up {uptime}, {memory}", status.pid));
    fact(text, "socket", &status.socket);
    fact(text, "root", &format!("{}, state {}", status.root, status.state));
    fact(text, "kernel", &status.kernel);
    fact(text, "cgroups", &format!("{}, driver {}", status.cgroup_version, status.cgroup_driver));
    fact(text, "serves", "CRI v1");
    for condition in &status.conditions {
        fact(text, &condition.name, &readiness(condition, paint));
    }
    fact(text, "pods", &counts(&status.sandboxes));
    fact(text, "containers", &counts(&status.containers));
    let memory = size(status.monitors_memory_bytes);
    fact(text, "monitors", &format!("{}, {memory}", status.monitors));
    let lost = match readers.left_behind {
        0 => String::new(),
        count => format!(", {count} ended for being too far behind"),
    };
    let behind = readers.behind;
    fact(text, "subscribers", &format!("{}, {behind} events behind{lost}", readers.count));
}

fn fact(text: &mut String, name: &str, value: &str) {
    wrapped(text, &format!("  {name:width$}", width = INDENT - 2), INDENT, value);
}

fn readiness(condition: &Condition, paint: Paint) -> String {
    match condition.is_met {
        true => paint.mark("ready", true),
        false => format!("{}: {}", paint.mark("not ready", false), condition.message),
    }
}

/// Those that there are; `none` where there are none.
fn counts(counts: &[Count]) -> String {
    let there = counts.iter().filter(|one| one.count > 0);
    let words: Vec<_> = there.map(|one| format!("{} {}", one.count, one.state)).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

fn silent(text: &mut String, status: &StatusResponse, paint: Paint) {
    if status.silent.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{}", paint.mark("Pods that do not answer", false));
    for one in &status.silent {
        let age = duration(one.seconds);
        let words = format!("for {age}, {}: {}", one.stage, one.message);
        wrapped(text, &format!("  {} ", short(&one.id)), 4, &words);
    }
}

fn calls(text: &mut String, operations: &[Operation], paint: Paint) {
    if operations.is_empty() {
        return;
    }
    let stage = WIDTH - 2 - CALL - OBJECT - AGE;
    let _ = writeln!(
        text,
        "\n  {:CALL$}{:OBJECT$}{:stage$}{:>AGE$}",
        "CALL", "OBJECT", "STAGE", "SINCE"
    );
    for one in operations {
        let object = format!("{} {}", one.what, short(&one.id));
        let age = duration(one.stage_age_milliseconds / 1000);
        let line = format!(
            "  {:CALL$}{:OBJECT$}{:stage$}{age:>AGE$}",
            cut(&one.name, CALL - 1),
            cut(&object, OBJECT - 1),
            cut(&one.stage, stage - 1),
        );
        let _ = writeln!(text, "{}", if one.is_stuck { paint.mark(&line, false) } else { line });
        if one.is_stuck {
            let kernel = if one.kernel.is_empty() { "" } else { ": " };
            wrapped(text, "    ", 4, &format!("stuck{kernel}{}", one.kernel));
        }
    }
}

fn pulls(text: &mut String, pulls: &[Pull]) {
    if pulls.is_empty() {
        return;
    }
    text.push('\n');
    let short = |pull: &Pull| Pull { image: cut(&pull.image, IMAGE), layers: pull.layers.clone() };
    let pulls: Vec<Pull> = pulls.iter().map(short).collect();
    for line in image::pulls_table(&pulls).lines() {
        let _ = writeln!(text, "  {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::v1::{Silent, Subscribers};

    fn status() -> StatusResponse {
        let condition = |name: &str, message: &str| Condition {
            name: name.to_owned(),
            is_met: message.is_empty(),
            message: message.to_owned(),
        };
        StatusResponse {
            version: "1.2.3".to_owned(),
            uptime_seconds: 90_061,
            memory_bytes: 21_300_000,
            conditions: vec![condition("runtime", ""), condition("network", "")],
            sandboxes: vec![
                Count { state: "ready".to_owned(), count: 2 },
                Count { state: "not ready".to_owned(), count: 0 },
            ],
            subscribers: Some(Subscribers { count: 1, behind: 0, left_behind: 0 }),
            ..StatusResponse::default()
        }
    }

    fn operation(is_stuck: bool) -> Operation {
        Operation {
            name: "CreateContainer".to_owned(),
            what: "container".to_owned(),
            id: "ab".repeat(32),
            stage: "looking at the sources of its mounts".to_owned(),
            stage_age_milliseconds: 75_500,
            is_stuck,
            kernel: "process 7 in state D in request_wait_answer".to_owned(),
            ..Operation::default()
        }
    }

    #[test]
    fn one_that_is_well_says_so_in_plain_words() {
        let text = text(&status(), Paint::Plain);
        assert!(text.starts_with("criquet 1.2.3 is well\n"), "{text}");
        assert!(text.contains("\n  daemon      pid 0, up 1d1h, 21.3MB\n"), "{text}");
        assert!(text.contains("\n  pods        2 ready\n  containers  none\n"), "{text}");
        assert!(!text.contains('\x1b') && !text.contains("CALL"), "{text}");
    }

    #[test]
    fn what_is_not_well_is_told_within_80_columns() {
        let mut status = status();
        status.operations = vec![operation(false), operation(true)];
        status.conditions[1].is_met = false;
        status.conditions[1].message = "no network is configured in /etc/cni/net.d ".repeat(4);
        status.silent = vec![Silent {
            id: "cd".repeat(32),
            stage: "starting a container".to_owned(),
            message: "no answer ".repeat(20),
            seconds: 61,
        }];
        status.pulls = vec![Pull {
            image: format!("registry.example/{}:1", "long/".repeat(30)),
            layers: Vec::new(),
        }];
        let plain = text(&status, Paint::Plain);
        assert!(plain.starts_with("criquet 1.2.3 is not well\n"), "{plain}");
        assert!(plain.contains("container abababababab"), "{plain}");
        assert!(plain.contains(" 1m15s\n"), "{plain}");
        assert!(plain.contains("stuck: process 7 in state D"), "{plain}");
        for line in plain.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        assert!(text(&status, Paint::Coloured).contains("\x1b[31mis not well\x1b[0m"));
    }
}
