//! What a pod says: lines of its containers with their names, and what becomes of them.

use std::{
    io::{self, IsTerminal, Write},
    sync::Mutex,
};

use crate::cli::{
    node::logs::{Line, Stream},
    paint::Paint,
};

/// Standard output, shared by all that speak.
pub(super) struct Say {
    paint: Paint,
    /// The longest name.
    width: usize,
    // Held for the writing of one line.
    unfinished: Mutex<Vec<Unfinished>>,
}

/// The beginning of a line whose end has not come.
struct Unfinished {
    speaker: usize,
    stream: Stream,
    text: Vec<u8>,
}

/// Who says a line: the name of a container, and which of the pod's it is.
#[derive(Debug, Clone)]
pub(super) struct Speaker {
    pub name: String,
    pub number: usize,
}

/// The longest line that is kept until its end comes.
const LONGEST: usize = 1 << 20;

impl Say {
    /// For containers with these names.
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        Self {
            paint: Paint::of(io::stdout().is_terminal()),
            width: names.map(|name| name.chars().count()).max().unwrap_or(0),
            unfinished: Mutex::default(),
        }
    }

    /// A line of a container, once it is whole.
    pub(super) fn line(&self, speaker: &Speaker, line: Line) {
        let mut unfinished = self.unfinished.lock().unwrap_or_else(|error| error.into_inner());
        let is_one = |one: &Unfinished| one.speaker == speaker.number && one.stream == line.stream;
        let at = unfinished.iter().position(is_one);
        let mut text = at.map(|at| unfinished.swap_remove(at).text).unwrap_or_default();
        text.extend_from_slice(&line.text);
        if line.is_part && text.len() < LONGEST {
            let Line { stream, .. } = line;
            unfinished.push(Unfinished { speaker: speaker.number, stream, text });
            return;
        }
        let name = format!("{:width$} |", speaker.name, width = self.width);
        let mut bytes = self.paint.name(speaker.number, &name).into_bytes();
        if !text.is_empty() {
            bytes.push(b' ');
        }
        bytes.extend_from_slice(&text);
        bytes.push(b'\n');
        self.write(&bytes);
    }

    /// What becomes of the pod or of one of its containers.
    pub(super) fn note(&self, words: &str) {
        let _one_line = self.unfinished.lock().unwrap_or_else(|error| error.into_inner());
        self.write(format!("{}\n", self.paint.dim(&format!("-- {words}"))).as_bytes());
    }

    /// What goes wrong.
    pub(super) fn warn(&self, words: &str) {
        let _one_line = self.unfinished.lock().unwrap_or_else(|error| error.into_inner());
        self.write(format!("{}\n", self.paint.mark(&format!("-- {words}"), false)).as_bytes());
    }

    /// Nobody need read it for the pod to run.
    fn write(&self, bytes: &[u8]) {
        let mut output = io::stdout().lock();
        let _ = output.write_all(bytes).and_then(|()| output.flush());
    }
}
