//! `criquet ps`: pods and containers as a tree.

use std::io::{self, IsTerminal};

use serde_json::json;

use super::{args::Ps, open, snapshot, table, width};
use crate::cli::{Error, image::args::Output, output::print, paint::Paint, time::now};

/// Prints what there is.
pub(super) fn command(arguments: &Ps) -> Result<(), Error> {
    let client = open(&arguments.node)?;
    let pods = client.wait(snapshot::take(&client.pods(), &arguments.pods))?;
    print(&match arguments.output {
        Output::Table => text(&pods, arguments.all, Paint::of(io::stdout().is_terminal())),
        Output::Json => {
            let mut pods = pods;
            if !arguments.all {
                pods.retain(snapshot::Pod::is_ready);
                pods.iter_mut().for_each(|pod| pod.containers.retain(|one| !one.is_ended()));
            }
            format!("{:#}\n", json!({ "pods": pods }))
        }
    })
}

fn text(pods: &[snapshot::Pod], all: bool, paint: Paint) -> String {
    let now = now();
    let shown: Vec<_> = pods.iter().filter(|pod| all || pod.is_ready()).collect();
    let rows: Vec<_> = shown.iter().flat_map(|pod| table::rows(pod, all, now)).collect();
    let mut text = match rows.as_slice() {
        [] => "no pods\n".to_owned(),
        rows => table::text(rows, width(), paint),
    };
    if !all {
        let gone = pods.len() - shown.len();
        let ended = shown.iter().flat_map(|pod| &pod.containers).filter(|one| one.is_ended());
        let hidden = gone + ended.count();
        if hidden > 0 {
            let words = format!("{hidden} that ended are not shown; -a shows them");
            text.push_str(&format!("{}\n", paint.dim(&words)));
        }
    }
    text
}
