//! `criquet top`: pods and containers with what they use, drawn again each second.
//!
//! It draws by itself what `criquet ps` prints. The library that others have for this (ratatui)
//! brings many crates into a daemon that needs none of them.

use std::{
    cmp::Reverse,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use tokio::sync::mpsc;

use super::{
    args::{Order, Top},
    error::Error as NodeError,
    open,
    snapshot::{self, Pod, Usage},
    table, terminal, width,
};
use crate::cli::{
    Error,
    image::{Client, size},
    output::print,
    paint::Paint,
    time::now,
};

/// Between two pictures.
const PAUSE: Duration = Duration::from_secs(1);

/// What ends a line of a terminal that is raw: what is left of the old one is erased.
const LINE_END: &str = "\x1b[K\r\n";

/// Shows what there is until somebody has seen enough.
pub(super) fn command(arguments: &Top) -> Result<(), Error> {
    let client = open(&arguments.node)?;
    let pods = client.wait(snapshot::take(&client.pods(), &arguments.pods))?;
    if arguments.once {
        let paint = Paint::of(io::stdout().is_terminal());
        return print(&picture(pods, arguments.sort, width(), paint));
    }
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(NodeError::NoTerminal.into());
    }
    let keys = terminal::input().map_err(NodeError::Terminal)?;
    let screen = Screen::open().map_err(NodeError::Terminal)?;
    let shown = watch(&client, arguments, pods, keys);
    drop(screen);
    shown
}

/// What happens next on the screen.
enum Next {
    Again(Vec<Pod>),
    Keys(Vec<u8>),
    End,
}

fn watch(
    client: &Client,
    arguments: &Top,
    mut pods: Vec<Pod>,
    mut keys: mpsc::Receiver<Vec<u8>>,
) -> Result<(), Error> {
    let mut order = arguments.sort;
    loop {
        draw(&picture(pods.clone(), order, width(), Paint::of(true))).map_err(Error::Output)?;
        let next = client.wait(async {
            match tokio::time::timeout(PAUSE, keys.recv()).await {
                Ok(Some(keys)) => Ok(Next::Keys(keys)),
                Ok(None) => Ok(Next::End),
                Err(_) => snapshot::take(&client.pods(), &arguments.pods).await.map(Next::Again),
            }
        })?;
        match next {
            Next::Again(now) => pods = now,
            Next::End => return Ok(()),
            Next::Keys(keys) => match keys.first() {
                // ^C and ^D are bytes like others where the terminal is raw.
                Some(b'q' | b'Q' | 3 | 4) => return Ok(()),
                Some(b'c') => order = Order::Cpu,
                Some(b'm') => order = Order::Memory,
                Some(b'n') => order = Order::Name,
                _ => {}
            },
        }
    }
}

/// As much of a picture as there is room for.
fn draw(text: &str) -> io::Result<()> {
    let rows = terminal::size().map_or(24, |(_, rows)| usize::from(rows));
    let lines: Vec<&str> = text.lines().take(rows).collect();
    let mut output = io::stdout().lock();
    // From the top, and without what was below before.
    write!(output, "\x1b[H{}\x1b[K\x1b[J", lines.join(LINE_END))?;
    output.flush()
}

/// What there is, in words and as a table.
fn picture(mut pods: Vec<Pod>, order: Order, width: usize, paint: Paint) -> String {
    pods.retain(Pod::is_ready);
    for pod in &mut pods {
        pod.containers.retain(|container| !container.is_ended());
        pod.containers.sort_by_key(|one| rank(order, &one.usage));
    }
    pods.sort_by_key(|pod| rank(order, &pod.usage));
    let containers: usize = pods.iter().map(|pod| pod.containers.len()).sum();
    let sum = |figure: fn(&Usage) -> Option<u64>| -> u64 {
        pods.iter().filter_map(|pod| figure(&pod.usage)).sum()
    };
    let (cpu, memory) = (sum(|usage| usage.cpu_nano_cores), sum(|usage| usage.memory_bytes));
    let (cpu, memory) = (table::percent(cpu), size(memory));
    let (pods_there, containers) = (count(pods.len(), "pod"), count(containers, "container"));
    let mut text =
        format!("{pods_there}, {containers}, {cpu} of a processor, {memory} of memory\n\n");
    let rows: Vec<_> = pods.iter().flat_map(|pod| table::rows(pod, false, now())).collect();
    text.push_str(&table::text(&rows, width, paint));
    text
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The largest first; names stay as they come.
fn rank(order: Order, usage: &Usage) -> Reverse<Option<u64>> {
    Reverse(match order {
        Order::Cpu => usage.cpu_nano_cores,
        Order::Memory => usage.memory_bytes,
        Order::Name => None,
    })
}

/// The other screen of the terminal, without a cursor and with lines that end at its edge; what
/// was there before comes back.
struct Screen {
    _raw: terminal::Raw,
}

impl Screen {
    fn open() -> io::Result<Self> {
        let raw = terminal::Raw::enter()?;
        let mut output = io::stdout().lock();
        output.write_all(b"\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J")?;
        output.flush()?;
        Ok(Self { _raw: raw })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut output = io::stdout().lock();
        // A terminal that is gone needs no care.
        let _ = output.write_all(b"\x1b[?7h\x1b[?25h\x1b[?1049l");
        let _ = output.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_uses_most_comes_first() {
        let pod = |name: &str, cpu, memory| Pod {
            namespace: "n".to_owned(),
            name: name.to_owned(),
            state: snapshot::READY,
            usage: Usage { cpu_nano_cores: Some(cpu), memory_bytes: Some(memory) },
            ..Pod::default()
        };
        let pods = vec![pod("a", 1, 300), pod("b", 30_000_000, 2), pod("c", 2, 4_000)];
        for (order, expected) in [
            (Order::Cpu, ["n/b", "n/c", "n/a"]),
            (Order::Memory, ["n/c", "n/a", "n/b"]),
            (Order::Name, ["n/a", "n/b", "n/c"]),
        ] {
            let text = picture(pods.clone(), order, 80, Paint::Plain);
            assert!(
                text.starts_with("3 pods, 0 containers, 3.0% of a processor, 4.30kB"),
                "{text}"
            );
            let names: Vec<_> = text.lines().skip(3).map(|line| &line[..3]).collect();
            assert_eq!(names, expected);
        }
    }
}
