//! Colours, where somebody sees them (no-color.org).

/// Whether there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    Coloured,
    Plain,
}

/// ANSI codes of colours and of light that is less.
const GREEN: u8 = 32;
const RED: u8 = 31;
const DIM: u8 = 2;

/// Colours that tell names from each other; red is for what is wrong.
const OF_NAMES: [u8; 10] = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

impl Paint {
    /// None where `NO_COLOR` says so, and where nobody sees them.
    pub(super) fn of(is_terminal: bool) -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let is_dumb = set("TERM").is_none_or(|term| term == "dumb");
        if is_terminal && !is_dumb && set("NO_COLOR").is_none() {
            Self::Coloured
        } else {
            Self::Plain
        }
    }

    /// What is well, or is not.
    pub(super) fn mark(self, text: &str, is_well: bool) -> String {
        self.with(if is_well { GREEN } else { RED }, text)
    }

    /// What is less important than the rest.
    pub(super) fn dim(self, text: &str) -> String {
        self.with(DIM, text)
    }

    /// The `number`th of several names.
    pub(super) fn name(self, number: usize, text: &str) -> String {
        self.with(OF_NAMES[number % OF_NAMES.len()], text)
    }

    fn with(self, code: u8, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}
