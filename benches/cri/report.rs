//! The figures as a table and as JSON.

use std::{fs, path::Path};

use anyhow::Context;
use serde_json::{Value, json};

use crate::{
    METHOD,
    args::Args,
    floor,
    measure::{Curve, Figure, Figures, Floor, percentile},
};

/// Prints a table with one line per figure.
pub fn print(floor: Option<&floor::Figures>, all: &[Figures]) {
    println!("{}", machine());
    if let Some(floor) = floor {
        print_floor(floor);
    }
    let names: Vec<&str> = all.iter().map(|figures| figures.runtime.as_str()).collect();
    println!("\nA: {}", names[0]);
    if let Some(name) = names.get(1) {
        println!("B: {name}");
    }
    let mut rows = vec![header(names.len() > 1)];
    for figure in &all[0].list {
        let other =
            all.get(1).and_then(|figures| figures.list.iter().find(|f| f.name == figure.name));
        rows.push(row(figure, other, floor, names.len() > 1));
    }
    println!();
    print_aligned(&rows);
    println!("\nHow the figures were taken:");
    for sentence in METHOD {
        println!("- {sentence}");
    }
}

fn header(two: bool) -> Vec<String> {
    let names: &[&str] = match two {
        true => &["", "unit", "A p50", "A p95", "A/floor", "B p50", "B p95", "B/floor", "B/A"],
        false => &["", "unit", "p50", "p95", "/floor"],
    };
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn row(
    figure: &Figure,
    other: Option<&Figure>,
    floor: Option<&floor::Figures>,
    two: bool,
) -> Vec<String> {
    let mut row = vec![figure.name.clone(), figure.unit.to_owned()];
    row.extend(columns(figure, floor));
    if let Some(other) = other {
        row.extend(columns(other, floor));
        row.push(format!("{:.2}", other.p50 / figure.p50));
    } else if two {
        row.extend(["-", "-", "-", "-"].map(str::to_owned));
    }
    row
}

fn columns(figure: &Figure, floor: Option<&floor::Figures>) -> [String; 3] {
    let ratio = ratio(figure, floor).map_or(String::new(), |ratio| format!("{ratio:.1}"));
    [number(figure.p50), figure.p95.map_or(String::new(), number), ratio]
}

fn ratio(figure: &Figure, floor: Option<&floor::Figures>) -> Option<f64> {
    Some(figure.p50 / floor?.get(figure.floor?))
}

fn number(value: f64) -> String {
    match value {
        v if v >= 1000.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.3}"),
    }
}

fn print_floor(floor: &floor::Figures) {
    println!("\nThe kernel's floor:");
    let mut rows = vec![["", "unit", "p50", "p95", "CPU"].map(str::to_owned).to_vec()];
    for (name, bare) in [("bare pod", &floor.pod), ("fork, exec, wait", &floor.exec)] {
        let at = |share| percentile(&bare.times, share).map_or(String::new(), number);
        rows.push(vec![name.to_owned(), "ms".to_owned(), at(0.5), at(0.95), number(bare.cpu)]);
    }
    print_aligned(&rows);
}

/// Names to the left, numbers to the right.
fn print_aligned(rows: &[Vec<String>]) {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.len()).max().unwrap_or(0)
    };
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| match column {
            0 => format!("{cell:<width$}", width = width(column)),
            _ => format!("{cell:>width$}", width = width(column)),
        });
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// Writes everything as JSON.
pub fn write(
    path: &Path,
    args: &Args,
    floor: Option<&floor::Figures>,
    all: &[Figures],
) -> anyhow::Result<()> {
    let bare = |floor: &floor::Figures| {
        json!({
            "pod_ms": floor.get(Floor::PodTime),
            "pod_cpu_ms": floor.get(Floor::PodCpu),
            "exec_ms": floor.get(Floor::ExecTime),
            "exec_cpu_ms": floor.get(Floor::ExecCpu),
        })
    };
    let value = json!({
        "machine": machine(),
        "method": METHOD,
        "image": args.image,
        "count": args.count,
        "execs": args.execs,
        "parallel": args.parallel,
        "density": args.density,
        "floor": floor.map(bare),
        "runtimes": all.iter().map(|figures| runtime(figures, floor)).collect::<Vec<_>>(),
    });
    let text = serde_json::to_string_pretty(&value)?;
    fs::write(path, text + "\n").with_context(|| format!("writing {}", path.display()))
}

fn runtime(figures: &Figures, floor: Option<&floor::Figures>) -> Value {
    let figure = |figure: &Figure| {
        json!({
            "name": figure.name,
            "unit": figure.unit,
            "p50": figure.p50,
            "p95": figure.p95,
            "samples": figure.samples,
            "to_floor": ratio(figure, floor),
        })
    };
    let curve = |curve: &Curve| json!({ "name": curve.name, "unit": curve.unit, "pods_and_values": curve.points });
    json!({
        "runtime": figures.runtime,
        "curves": figures.curves.iter().map(curve).collect::<Vec<_>>(),
        "figures": figures.list.iter().map(figure).collect::<Vec<_>>(),
    })
}

/// Kernel, processors and load, which the figures depend on.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    format!("Linux {}, {processors} processors, load {load}", read("/proc/sys/kernel/osrelease"))
}
