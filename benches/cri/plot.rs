//! Curves as a picture: one small panel for each figure, one line for each runtime.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Context;

use crate::measure::{Curve, Figures};

const PANEL: (f64, f64) = (360.0, 220.0);
/// Room within a panel for its title, and for numbers to the left and below.
const TOP: f64 = 30.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 14.0;
const BOTTOM: f64 = 34.0;
const COLUMNS: usize = 3;
/// Blue and orange, which people of all kinds of sight can tell apart.
const COLOURS: [&str; 2] = ["#0072b2", "#d55e00"];

/// Writes the curves of all runtimes as SVG.
pub fn write(path: &Path, all: &[Figures]) -> anyhow::Result<()> {
    let Some(first) = all.first().filter(|figures| !figures.curves.is_empty()) else {
        return Ok(());
    };
    let rows = first.curves.len().div_ceil(COLUMNS);
    let head = 24.0 + 18.0 * all.len() as f64;
    let (width, height) = (PANEL.0 * COLUMNS as f64, head + PANEL.1 * rows as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (number, figures) in all.iter().enumerate() {
        let y = 20.0 + 18.0 * number as f64;
        let colour = COLOURS[number % COLOURS.len()];
        let name = escape(&figures.runtime);
        writeln!(
            svg,
            "<rect x=\"12\" y=\"{}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>\
             <text x=\"32\" y=\"{y}\">{name}</text>",
            y - 6.0
        )?;
    }
    for (number, curve) in first.curves.iter().enumerate() {
        let x = PANEL.0 * (number % COLUMNS) as f64;
        let y = head + PANEL.1 * (number / COLUMNS) as f64;
        let of = |figures: &Figures| figures.curves.iter().find(|c| c.name == curve.name).cloned();
        let lines: Vec<Option<Curve>> = all.iter().map(of).collect();
        writeln!(svg, "<g transform=\"translate({x} {y})\">")?;
        panel(&mut svg, curve, &lines)?;
        writeln!(svg, "</g>")?;
    }
    svg.push_str("</svg>\n");
    fs::write(path, svg).with_context(|| format!("writing {}", path.display()))
}

fn panel(svg: &mut String, curve: &Curve, lines: &[Option<Curve>]) -> anyhow::Result<()> {
    let points = || lines.iter().flatten().flat_map(|line| &line.points);
    let most = nice(points().map(|(_, value)| *value).fold(0.0, f64::max));
    let widest = points().map(|(count, _)| *count).max().unwrap_or(1) as f64;
    let (width, height) = (PANEL.0 - LEFT - RIGHT, PANEL.1 - TOP - BOTTOM);
    let x = |count: usize| LEFT + width * count as f64 / widest;
    let y = |value: f64| TOP + height * (1.0 - value / most);
    let title = escape(&format!("{} ({})", curve.name, curve.unit));
    writeln!(svg, "<text x=\"{LEFT}\" y=\"18\" font-weight=\"bold\">{title}</text>")?;
    for part in [0.0, 0.5, 1.0] {
        let (value, count) = (most * part, (widest * part).round() as usize);
        writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{1}\" y2=\"{1}\" stroke=\"#ddd\"/>\
             <text x=\"{2}\" y=\"{3}\" text-anchor=\"end\">{value}</text>\
             <text x=\"{4}\" y=\"{5}\" text-anchor=\"middle\">{count}</text>",
            LEFT + width,
            y(value),
            LEFT - 6.0,
            y(value) + 4.0,
            x(count),
            PANEL.1 - BOTTOM + 16.0
        )?;
    }
    for (number, line) in lines.iter().enumerate() {
        let Some(line) = line else { continue };
        let colour = COLOURS[number % COLOURS.len()];
        let at = |(count, value): &(usize, f64)| format!("{:.1},{:.1}", x(*count), y(*value));
        let way: Vec<String> = line.points.iter().map(at).collect();
        writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            way.join(" ")
        )?;
        for (count, value) in &line.points {
            let (x, y) = (x(*count), y(*value));
            writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>")?;
        }
    }
    Ok(())
}

/// The next number that people like to read: 1, 2 or 5 with zeros.
fn nice(most: f64) -> f64 {
    let size = 10_f64.powf(most.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|step| step * size).into_iter().find(|n| *n >= most).unwrap_or(most)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
