//! `criquet logs`: what a container says and has said.

mod follow;
mod line;

use std::{
    collections::VecDeque,
    io::{self, Write},
    path::Path,
};

use tonic::Status;

use super::{
    args::{self, Logs},
    error::Error as NodeError,
    find, open,
    snapshot::{self, Pods},
};
use crate::{
    cli::{Error, image::Client, time},
    cri::v1::{ContainerEventType, ContainerState, ContainerStatusRequest, GetEventsRequest},
};

pub(in crate::cli) use follow::Log;
pub(in crate::cli) use line::{Line, Stream};

/// Prints a log.
pub(super) fn command(arguments: &Logs) -> Result<(), Error> {
    let since = arguments.since.as_deref().map(since).transpose()?;
    let client = open(&arguments.node)?;
    let pods = client.wait(snapshot::take(&client.pods(), &args::Pods::default()))?;
    let (pod, mut container) = find::container(&pods, &arguments.name)?;
    if arguments.previous {
        container = find::previous(pod, container)
            .ok_or_else(|| NodeError::NoPrevious(container.name.clone()))?;
    }
    let path = client.wait(log_path(client.pods(), &container.id))?;
    if path.is_empty() {
        return Err(NodeError::NoLog(container.name.clone()).into());
    }
    let mut printer =
        Printer { since, timestamps: arguments.timestamps, inside: [false; 2], failed: None };
    show(&client, arguments, &container.id, Path::new(&path), &mut printer)?;
    match printer.failed {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output(error)),
        _ => Ok(()),
    }
}

fn show(
    client: &Client,
    arguments: &Logs,
    id: &str,
    path: &Path,
    printer: &mut Printer,
) -> Result<(), Error> {
    let failed = |source| NodeError::Log { path: path.to_owned(), source };
    let mut log = Log::new(path);
    if !arguments.follow {
        log.open().map_err(failed)?;
    }
    let mut last = Last::new(arguments.tail);
    log.read(|line| {
        if printer.wants(&line)
            && let Some(line) = last.pass(line)
        {
            printer.print(&line);
        }
        printer.failed.is_none()
    })
    .map_err(failed)?;
    last.lines.iter().for_each(|line| printer.print(line));
    if !arguments.follow {
        return Ok(());
    }
    client.wait(async {
        let mut refused = None;
        let ended = async {
            if let Err(status) = end_of(client.pods(), id).await {
                refused = Some(status);
            }
        };
        let followed = log.follow(ended, |line| {
            if printer.wants(&line) {
                printer.print(&line);
            }
            printer.failed.is_none()
        });
        let followed = followed.await.map_err(failed);
        refused.map_or(Ok(followed), Err)
    })??;
    Ok(())
}

/// The moment that `--since` means, in nanoseconds since the epoch.
fn since(text: &str) -> Result<i64, NodeError> {
    let ago = time::duration(text).map(|ago| time::now().saturating_sub(ago));
    ago.or_else(|| time::parse(text)).ok_or_else(|| NodeError::Since(text.to_owned()))
}

async fn log_path(mut pods: Pods, id: &str) -> Result<String, Status> {
    let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
    let status = pods.container_status(request).await?.into_inner().status;
    Ok(status.unwrap_or_default().log_path)
}

/// Waits for the end of a container. Events are asked for first, so that none is missed.
async fn end_of(mut pods: Pods, id: &str) -> Result<(), Status> {
    let mut events = pods.get_container_events(GetEventsRequest {}).await?.into_inner();
    let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
    let status = match pods.container_status(request).await {
        Err(status) if status.code() == tonic::Code::NotFound => return Ok(()),
        status => status?.into_inner().status.unwrap_or_default(),
    };
    if status.state == i32::from(ContainerState::ContainerExited) {
        return Ok(());
    }
    while let Some(event) = events.message().await? {
        let is_end = matches!(
            event.container_event_type(),
            ContainerEventType::ContainerStoppedEvent | ContainerEventType::ContainerDeletedEvent
        );
        if is_end && event.container_id == id {
            break;
        }
    }
    Ok(())
}

/// Keeps the last lines back until all are known.
struct Last {
    /// None to keep none back.
    count: Option<usize>,
    lines: VecDeque<Line>,
    whole: usize,
}

impl Last {
    fn new(count: Option<usize>) -> Self {
        Self { count, lines: VecDeque::new(), whole: 0 }
    }

    /// Gives back what is to be printed at once.
    fn pass(&mut self, line: Line) -> Option<Line> {
        let Some(count) = self.count else { return Some(line) };
        self.whole += usize::from(!line.is_part);
        self.lines.push_back(line);
        while self.whole > count {
            // A line goes with all its parts.
            let gone = self.lines.pop_front();
            self.whole -= usize::from(gone.is_some_and(|line| !line.is_part));
        }
        None
    }
}

struct Printer {
    since: Option<i64>,
    timestamps: bool,
    /// The streams that are in the midst of a line.
    inside: [bool; 2],
    /// Why nothing more can be printed.
    failed: Option<io::Error>,
}

impl Printer {
    fn wants(&self, line: &Line) -> bool {
        self.failed.is_none()
            && self.since.is_none_or(|since| time::parse(&line.time).is_none_or(|at| at >= since))
    }

    /// Each stream goes where the container wrote it to.
    fn print(&mut self, line: &Line) {
        let printed = match line.stream {
            Stream::Stdout => self.write(&mut io::stdout().lock(), line),
            Stream::Stderr => self.write(&mut io::stderr().lock(), line),
        };
        if let Err(error) = printed {
            self.failed.get_or_insert(error);
        }
    }

    fn write(&mut self, output: &mut impl Write, line: &Line) -> io::Result<()> {
        let inside = &mut self.inside[usize::from(line.stream == Stream::Stderr)];
        let mut bytes = Vec::new();
        if self.timestamps && !*inside {
            bytes.extend_from_slice(line.time.as_bytes());
            bytes.push(b' ');
        }
        bytes.extend_from_slice(&line.text);
        if !line.is_part {
            bytes.push(b'\n');
        }
        *inside = line.is_part;
        output.write_all(&bytes)?;
        output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_whole() {
        let mut last = Last::new(Some(2));
        for (tag, text) in [("F", "a"), ("P", "b1"), ("F", "b2"), ("P", "c1"), ("F", "c2")] {
            let line = Line::parse(format!("t stdout {tag} {text}").as_bytes()).unwrap();
            assert!(last.pass(line).is_none());
        }
        let texts: Vec<_> = last.lines.iter().map(|line| line.text.as_slice()).collect();
        assert_eq!(texts, [b"b1", b"b2", b"c1", b"c2"]);
        let line = Line::parse(b"t stdout F a").unwrap();
        assert!(Last::new(None).pass(line).is_some());
    }

    #[test]
    fn since_when() {
        assert_eq!(since("1970-01-01T00:00:01Z").unwrap(), 1_000_000_000);
        let then = since("10m").unwrap();
        let ago = time::now() - then;
        assert!((600_000_000_000..601_000_000_000).contains(&ago));
        assert!(since("yesterday").unwrap_err().to_string().contains("yesterday"));
    }
}
