//! How far a pull has come, for people: a bar for each layer on a terminal, a line for each
//! change elsewhere.

use std::collections::BTreeMap;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::list::size;
use crate::admin::v1::{LayerState, Pull, PulledLayer};

/// Hex digits of a layer's digest.
const SHORT: usize = 12;

/// Shows progress on standard error.
pub(super) trait Show {
    fn progress(&mut self, pull: &Pull);

    /// The pull has ended, well or not.
    fn end(&mut self, _is_well: bool) {}
}

/// Shows nothing.
pub(super) struct Quiet;

impl Show for Quiet {
    fn progress(&mut self, _pull: &Pull) {}
}

/// Bars that grow.
#[derive(Default)]
pub(super) struct Bars {
    all: MultiProgress,
    by_digest: BTreeMap<String, ProgressBar>,
}

impl Show for Bars {
    fn progress(&mut self, pull: &Pull) {
        for layer in &pull.layers {
            let bar = self.bar(layer);
            bar.set_style(style(layer.state()));
            bar.set_message(word(layer.state()));
            bar.set_position(position(layer));
            if matches!(layer.state(), LayerState::Complete | LayerState::Present) {
                bar.finish();
            }
        }
    }

    fn end(&mut self, is_well: bool) {
        for bar in self.by_digest.values() {
            if is_well && !bar.is_finished() {
                bar.set_style(style(LayerState::Complete));
                bar.set_message(word(LayerState::Complete));
                bar.finish();
            } else {
                bar.abandon();
            }
        }
    }
}

impl Bars {
    fn bar(&mut self, layer: &PulledLayer) -> &ProgressBar {
        self.by_digest.entry(layer.digest.clone()).or_insert_with(|| {
            let bar = ProgressBar::new(layer.size)
                .with_style(style(layer.state()))
                .with_prefix(short(&layer.digest).to_owned())
                .with_position(position(layer));
            // What was here before it was shown says nothing of the rate.
            bar.reset_eta();
            self.all.add(bar)
        })
    }
}

fn position(layer: &PulledLayer) -> u64 {
    match layer.state() {
        LayerState::Unpacking => layer.unpacked,
        LayerState::Complete | LayerState::Present => layer.size,
        _ => layer.fetched,
    }
}

/// Templates are constants; a wrong one would show the plain bar.
fn style(state: LayerState) -> ProgressStyle {
    let template = match state {
        LayerState::Fetching => {
            "{prefix} {msg:11} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left"
        }
        LayerState::Unpacking => "{prefix} {msg:11} [{bar:30}] {bytes}/{total_bytes}",
        _ => "{prefix} {msg:11} {total_bytes}",
    };
    let style = ProgressStyle::with_template(template);
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

/// A line whenever a layer gets into another state.
#[derive(Default)]
pub(super) struct Lines {
    states: BTreeMap<String, LayerState>,
}

impl Show for Lines {
    fn progress(&mut self, pull: &Pull) {
        for line in self.changes(pull) {
            eprintln!("{line}");
        }
    }
}

impl Lines {
    fn changes(&mut self, pull: &Pull) -> Vec<String> {
        let mut lines = Vec::new();
        for layer in &pull.layers {
            let state = layer.state();
            if self.states.insert(layer.digest.clone(), state) != Some(state) {
                let (digest, size) = (short(&layer.digest), size(layer.size));
                lines.push(format!("{digest}: {} ({size})", word(state)));
            }
        }
        lines
    }
}

fn word(state: LayerState) -> &'static str {
    match state {
        LayerState::Unspecified | LayerState::Waiting => "waiting",
        LayerState::Fetching => "downloading",
        LayerState::Unpacking => "unpacking",
        LayerState::Complete => "complete",
        LayerState::Present => "is here",
    }
}

fn short(digest: &str) -> &str {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.get(..SHORT).unwrap_or(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pull(state: LayerState, fetched: u64) -> Pull {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let layer = PulledLayer { digest, state: state.into(), size: 1000, fetched, unpacked: 10 };
        Pull { image: "a".into(), layers: vec![layer] }
    }

    #[test]
    fn lines_tell_changes_only() {
        let mut lines = Lines::default();
        let fetching = pull(LayerState::Fetching, 1);
        assert_eq!(lines.changes(&fetching), ["abababababab: downloading (1.00kB)"]);
        assert!(lines.changes(&pull(LayerState::Fetching, 500)).is_empty());
        assert_eq!(lines.changes(&pull(LayerState::Complete, 1000)).len(), 1);
    }

    #[test]
    fn bars_follow_what_is_shown() {
        let mut bars = Bars::default();
        bars.progress(&pull(LayerState::Fetching, 500));
        let bar = bars.by_digest.values().next().unwrap().clone();
        assert_eq!((bar.position(), bar.message()), (500, "downloading".to_owned()));
        bars.progress(&pull(LayerState::Unpacking, 1000));
        assert_eq!((bar.position(), bar.message()), (10, "unpacking".to_owned()));
        bars.end(true);
        assert!(bar.is_finished());
        assert_eq!(bar.message(), "complete");
        for state in [LayerState::Fetching, LayerState::Unpacking, LayerState::Complete] {
            style(state);
        }
    }
}
