//! `docs/configuration.md`, from the same text as `criquet config default`.

use std::fmt::Write;

use criquet::cli::config::SAMPLE;

const HEAD: &str = "\
# Configuration

<!-- Made from deploy/config.toml: cargo run --features pages --bin criquet-pages -- --configuration docs/configuration.md -->
";

/// The page.
pub fn page() -> String {
    let mut blocks = SAMPLE.split("\n\n");
    let mut page = HEAD.to_owned();
    // The first line is the title, and the empty comment after it.
    let head = blocks.next().unwrap_or_default();
    let head = head.split_once("\n#\n").map_or(head, |(_, rest)| rest);
    for paragraph in head.split("\n#\n") {
        let _ = write!(page, "\n{}\n", paragraph_of(paragraph.lines()));
    }
    page.push_str("\n## Above all tables\n");
    blocks.for_each(|block| add(&mut page, block));
    page
}

/// What an explanation and its keys become, or the explanation of a table.
fn add(page: &mut String, block: &str) {
    let lines: Vec<&str> = block.trim().lines().collect();
    if let Some(table) = lines.last().filter(|line| line.starts_with('[')) {
        let _ = write!(page, "\n## `{table}`\n\n{}\n", paragraph_of(lines.iter().copied()));
        return;
    }
    let keys: Vec<(&str, &str)> = lines.iter().filter_map(|line| setting(line)).collect();
    let names: Vec<String> = keys.iter().map(|(key, _)| format!("`{key}`")).collect();
    let defaults: Vec<String> = keys.iter().map(|(_, value)| format!("`{value}`")).collect();
    let _ = write!(
        page,
        "\n### {}\n\nDefault: {}\n\n{}\n",
        names.join(", "),
        defaults.join(", "),
        paragraph_of(lines.iter().copied().filter(|line| setting(line).is_none()))
    );
}

/// A key and its default, as in `# root = "/var/lib/criquet"`.
pub fn setting(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.strip_prefix("# ")?.split_once(" = ")?;
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    key.chars().all(is_name).then_some((key, value))
}

/// The words of comments, one sentence to a line.
fn paragraph_of<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let words = lines.filter_map(|line| line.strip_prefix("# "));
    let text = words.collect::<Vec<_>>().join(" ");
    let mut paragraph = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((sentence, next)) = rest.split_once(". ") {
        let is_end = !next.starts_with(|c: char| c.is_lowercase());
        paragraph.push_str(sentence);
        paragraph.push_str(if is_end { ".\n" } else { ". " });
        rest = next;
    }
    paragraph + rest
}
