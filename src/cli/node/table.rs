//! Pods and their containers as a tree in columns.

use super::snapshot::{Container, Pod, READY, RUNNING, Usage};
use crate::cli::{
    image::size,
    paint::Paint,
    text::{cut, duration},
    time::age,
};

/// Between columns.
const GAP: &str = "  ";

/// A name is never cut to less.
const SHORTEST_NAME: usize = 16;

/// What stands before the names of containers.
const BRANCH: &str = "├ ";
const LAST_BRANCH: &str = "└ ";

/// A line of the table.
pub(super) struct Row {
    name: String,
    /// State, age, processor, memory, and an address or what else is to be said.
    cells: [String; 5],
    mood: Mood,
}

/// How something is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Ill,
    Over,
}

/// The table, with lines of that width as far as names can be cut.
pub(super) fn text(rows: &[Row], width: usize, paint: Paint) -> String {
    let head = ["STATE", "AGE", "CPU", "MEMORY", "ADDRESS, RESTARTS"];
    let widest = |column: usize| {
        let cells = rows.iter().map(|row| row.cells[column].chars().count());
        cells.max().unwrap_or(0).max(head[column].len())
    };
    let widths = [0, 1, 2, 3, 4].map(widest);
    let others = widths.iter().sum::<usize>() + GAP.len() * widths.len();
    let longest = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let name = width.saturating_sub(others).max(SHORTEST_NAME).min(longest.max(SHORTEST_NAME));
    let mut text = line(&padded("POD, CONTAINER", name), &head.map(str::to_owned), &widths, None);
    for row in rows {
        let cells = line(&padded(&named(&row.name, name), name), &row.cells, &widths, {
            Some((row.mood, paint))
        });
        text.push_str(&cells);
    }
    text
}

fn line(
    name: &str,
    cells: &[String; 5],
    widths: &[usize; 5],
    colour: Option<(Mood, Paint)>,
) -> String {
    let mut line = name.to_owned();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        // Figures stand below each other.
        let cell = match column {
            1..=3 => format!("{cell:>width$}"),
            4 => cell.clone(),
            _ => padded(cell, *width),
        };
        let cell = match colour {
            Some((Mood::Well, paint)) if column == 0 => paint.mark(&cell, true),
            Some((Mood::Ill, paint)) if column == 0 => paint.mark(&cell, false),
            _ => cell,
        };
        line.push_str(GAP);
        line.push_str(&cell);
    }
    let line = line.trim_end();
    match colour {
        Some((Mood::Over, paint)) => format!("{}\n", paint.dim(line)),
        _ => format!("{line}\n"),
    }
}

fn padded(text: &str, width: usize) -> String {
    format!("{text:width$}")
}

/// Keeps the branch of a name that is cut.
fn named(name: &str, width: usize) -> String {
    for branch in [BRANCH, LAST_BRANCH] {
        if let Some(rest) = name.strip_prefix(branch) {
            return format!("{branch}{}", cut(rest, width - branch.chars().count()));
        }
    }
    cut(name, width)
}

/// A pod, and those of its containers that are to be shown.
pub(super) fn rows(pod: &Pod, all: bool, now: i64) -> Vec<Row> {
    let mut rows = vec![pod_row(pod, now)];
    let shown: Vec<_> = pod.containers.iter().filter(|one| all || !one.is_ended()).collect();
    for (number, container) in shown.iter().enumerate() {
        let branch = if number + 1 == shown.len() { LAST_BRANCH } else { BRANCH };
        rows.push(container_row(container, branch, now));
    }
    rows
}

fn pod_row(pod: &Pod, now: i64) -> Row {
    let [cpu, memory] = used(&pod.usage);
    Row {
        name: pod.full_name(),
        cells: [
            pod.state.to_owned(),
            duration(age(pod.created_at, now)),
            cpu,
            memory,
            pod.addresses.first().cloned().unwrap_or_default(),
        ],
        mood: if pod.state == READY { Mood::Well } else { Mood::Over },
    }
}

fn container_row(container: &Container, branch: &str, now: i64) -> Row {
    let [cpu, memory] = used(&container.usage);
    let (state, since) = match container.exit_code {
        Some(code) => (format!("{} {code}", container.state), container.finished_at),
        None if container.started_at > 0 => (container.state.to_owned(), container.started_at),
        None => (container.state.to_owned(), container.created_at),
    };
    let mut words = Vec::new();
    if !matches!(container.reason.as_str(), "" | "Completed" | "Error") {
        words.push(container.reason.clone());
    }
    match container.restarts {
        0 => {}
        1 => words.push("1 restart".to_owned()),
        count => words.push(format!("{count} restarts")),
    }
    Row {
        name: format!("{branch}{}", container.name),
        cells: [state, duration(age(since, now)), cpu, memory, words.join(", ")],
        mood: match container.exit_code {
            None if container.state == RUNNING => Mood::Well,
            Some(0) | None => Mood::Over,
            Some(_) => Mood::Ill,
        },
    }
}

/// Hundredths of one processor, and memory.
fn used(usage: &Usage) -> [String; 2] {
    [usage.cpu_nano_cores.map(percent), usage.memory_bytes.map(size)]
        .map(|cell| cell.unwrap_or_else(|| "-".to_owned()))
}

/// Hundredths of one processor.
pub(super) fn percent(nano_cores: u64) -> String {
    let percent = nano_cores as f64 / 1e7;
    if percent < 9.95 { format!("{percent:.1}%") } else { format!("{percent:.0}%") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        let container = |name: &str, state, exit_code, restarts| Container {
            name: name.to_owned(),
            state,
            exit_code,
            restarts,
            reason: if exit_code == Some(137) { "OOMKilled".to_owned() } else { String::new() },
            started_at: 1_000_000_000,
            finished_at: 31_000_000_000,
            usage: Usage {
                cpu_nano_cores: exit_code.is_none().then_some(1_250_000_000),
                memory_bytes: exit_code.is_none().then_some(21_300_000),
            },
            ..Container::default()
        };
        Pod {
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            state: READY,
            created_at: 1_000_000_000,
            addresses: vec!["10.88.0.2".to_owned(), "fd00::2".to_owned()],
            containers: vec![
                container("old", "exited", Some(137), 0),
                container("app", RUNNING, None, 1),
            ],
            ..Pod::default()
        }
    }

    const NOW: i64 = 91_000_000_000;

    #[test]
    fn a_tree_of_what_runs_and_of_all() {
        let expected = "\
POD, CONTAINER    STATE      AGE   CPU  MEMORY  ADDRESS, RESTARTS
default/web       ready    1m30s     -       -  10.88.0.2
└ app             running  1m30s  125%  21.3MB  1 restart
";
        assert_eq!(text(&rows(&pod(), false, NOW), 80, Paint::Plain), expected);
        let all = text(&rows(&pod(), true, NOW), 80, Paint::Plain);
        assert!(
            all.contains("├ old             exited 137     1m     -       -  OOMKilled\n"),
            "{all}"
        );
    }

    #[test]
    fn names_give_way_within_80_columns() {
        let mut pod = pod();
        pod.name = "a-name-that-goes-on-and-on".repeat(4);
        pod.containers[1].name = "another-name-of-the-kind".repeat(4);
        let text = text(&rows(&pod, true, NOW), 80, Paint::Plain);
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(text.contains("\n└ …"), "{text}");
    }

    #[test]
    fn colours_stand_where_they_are_wanted() {
        let text = text(&rows(&pod(), true, NOW), 80, Paint::Coloured);
        assert!(text.contains("\x1b[32mready"), "{text}");
        assert!(text.contains("\x1b[31mexited 137"), "{text}");
    }
}
