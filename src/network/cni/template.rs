//! The configuration that is made of a template when Kubernetes tells the node its subnets.
//!
//! Templates are those that containerd users have (`conf_template`), in the language of Go's
//! `text/template`. Of that language there is what such templates are made of: fields
//! (`{{.PodCIDR}}`, `{{.PodCIDRRanges}}`, `{{.Routes}}`), `range` over a list with up to two
//! variables, `if` of a variable, `else` and `end`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ipnet::IpNet;

use super::{super::Error, list::parse};

/// The file of the configuration that is made of the template.
const FILE: &str = "10-criquet-net.conflist";

/// Makes the configuration for these subnets and puts it in its place, as a whole.
///
/// # Errors
/// A template that cannot be read or understood, or whose outcome is no configuration; a
/// directory that cannot be written to.
pub(super) fn render_to(template: &Path, directory: &Path, cidrs: &[IpNet]) -> Result<(), Error> {
    let refuse = |reason: String| Error::Configuration { path: template.to_owned(), reason };
    let source = fs::read_to_string(template).map_err(|error| refuse(error.to_string()))?;
    let text = render(&source, cidrs).map_err(refuse)?;
    let parsed = parse(text.as_bytes(), true).and_then(|parsed| match parsed.has_directory {
        true => Ok(()),
        false => parsed.network.check().map(drop),
    });
    parsed.map_err(|reason| refuse(format!("what it makes cannot be used: {reason}")))?;
    let path = directory.join(FILE);
    if fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let failed = |source| Error::File { operation: "write", path: path.clone(), source };
    fs::create_dir_all(directory).map_err(failed)?;
    // Its ending is none that configurations have.
    let temporary: PathBuf = directory.join(format!(".{FILE}.new"));
    fs::write(&temporary, &text).map_err(failed)?;
    fs::rename(&temporary, &path).map_err(failed)?;
    tracing::info!(path = %path.display(), "the CNI configuration is made of its template");
    Ok(())
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    List(Vec<String>),
    Number(usize),
}

impl Value {
    /// As `if` sees it.
    fn is_true(&self) -> bool {
        match self {
            Value::Text(text) => !text.is_empty(),
            Value::List(list) => !list.is_empty(),
            Value::Number(number) => *number != 0,
        }
    }

    fn text(&self) -> String {
        match self {
            Value::Text(text) => text.clone(),
            Value::List(list) => format!("[{}]", list.join(" ")),
            Value::Number(number) => number.to_string(),
        }
    }
}

/// Fills in a template.
fn render(source: &str, cidrs: &[IpNet]) -> Result<String, String> {
    let subnets: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
    let default = |cidr: &IpNet| if cidr.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" };
    let mut routes: Vec<String> = cidrs.iter().map(|cidr| default(cidr).to_owned()).collect();
    routes.dedup();
    let names = vec![
        (".PodCIDR".to_owned(), Value::Text(subnets.first().cloned().unwrap_or_default())),
        (".PodCIDRRanges".to_owned(), Value::List(subnets)),
        (".Routes".to_owned(), Value::List(routes)),
    ];
    let mut tokens = split(source)?.into_iter().peekable();
    let mut text = String::new();
    match fill(&parse_block(&mut tokens, 0)?, &names, &mut text)? {
        () if tokens.peek().is_some() => Err("{{end}} or {{else}} without a beginning".to_owned()),
        () => Ok(text),
    }
}

#[derive(Debug, Clone)]
enum Token<'a> {
    Text(&'a str),
    Action(&'a str),
}

/// Text and actions in turn, with the white space gone that an action takes away (`{{-`).
fn split(mut source: &str) -> Result<Vec<Token<'_>>, String> {
    let mut tokens = Vec::new();
    while let Some((text, rest)) = source.split_once("{{") {
        let (action, after) = rest.split_once("}}").ok_or("{{ without }}")?;
        let (action, text) = match action.strip_prefix('-') {
            Some(action) => (action, text.trim_end()),
            None => (action, text),
        };
        let (action, after) = match action.strip_suffix('-') {
            Some(action) => (action, after.trim_start()),
            None => (action, after),
        };
        tokens.push(Token::Text(text));
        tokens.push(Token::Action(action.trim()));
        source = after;
    }
    tokens.push(Token::Text(source));
    Ok(tokens)
}

#[derive(Debug)]
enum Node<'a> {
    Text(&'a str),
    Value(&'a str),
    Range { variables: Vec<&'a str>, list: &'a str, body: Vec<Node<'a>> },
    If { condition: &'a str, then: Vec<Node<'a>>, otherwise: Vec<Node<'a>> },
}

type Tokens<'a> = std::iter::Peekable<std::vec::IntoIter<Token<'a>>>;

/// Deeper ones are no templates of networks.
const MAX_DEPTH: usize = 16;

/// Reads up to the `else` or `end` of the block, which stays.
fn parse_block<'a>(tokens: &mut Tokens<'a>, depth: usize) -> Result<Vec<Node<'a>>, String> {
    if depth > MAX_DEPTH {
        return Err(format!("blocks are nested more than {MAX_DEPTH} times"));
    }
    let mut nodes = Vec::new();
    while let Some(token) = tokens.peek().cloned() {
        let Token::Action(action) = token else {
            if let Some(Token::Text(text)) = tokens.next() {
                nodes.push(Node::Text(text));
            }
            continue;
        };
        let words = || action.split_whitespace();
        match words().next().unwrap_or_default() {
            "else" | "end" => return Ok(nodes),
            "range" => {
                tokens.next();
                let (names, list) = match action["range".len()..].split_once(":=") {
                    Some((names, list)) => (names, list.trim()),
                    None => ("", action["range".len()..].trim()),
                };
                let variables = names.split(',').map(str::trim).filter(|name| !name.is_empty());
                let body = parse_block(tokens, depth + 1)?;
                end(tokens, action)?;
                nodes.push(Node::Range { variables: variables.collect(), list, body });
            }
            "if" => {
                tokens.next();
                let then = parse_block(tokens, depth + 1)?;
                let mut otherwise = Vec::new();
                if matches!(tokens.peek(), Some(Token::Action("else"))) {
                    tokens.next();
                    otherwise = parse_block(tokens, depth + 1)?;
                }
                end(tokens, action)?;
                nodes.push(Node::If { condition: action["if".len()..].trim(), then, otherwise });
            }
            _ if words().count() == 1 => {
                tokens.next();
                nodes.push(Node::Value(action));
            }
            _ => return Err(format!("{{{{{action}}}}} is not understood here")),
        }
    }
    Ok(nodes)
}

fn end(tokens: &mut Tokens<'_>, of: &str) -> Result<(), String> {
    match tokens.next() {
        Some(Token::Action("end")) => Ok(()),
        _ => Err(format!("{{{{{of}}}}} has no {{{{end}}}}")),
    }
}

type Names = Vec<(String, Value)>;

fn fill(nodes: &[Node<'_>], names: &Names, text: &mut String) -> Result<(), String> {
    for node in nodes {
        match node {
            Node::Text(part) => text.push_str(part),
            Node::Value(name) => text.push_str(&look_up(names, name)?.text()),
            Node::If { condition, then, otherwise } => {
                let branch = if look_up(names, condition)?.is_true() { then } else { otherwise };
                fill(branch, names, text)?;
            }
            Node::Range { variables, list, body } => {
                let Value::List(items) = look_up(names, list)? else {
                    return Err(format!("{list} is no list to range over"));
                };
                for (index, item) in items.into_iter().enumerate() {
                    let mut inner = names.clone();
                    let item = Value::Text(item);
                    match variables.as_slice() {
                        [] => {}
                        [one] => inner.push(((*one).to_owned(), item.clone())),
                        [number, one] => {
                            inner.push(((*number).to_owned(), Value::Number(index)));
                            inner.push(((*one).to_owned(), item.clone()));
                        }
                        _ => return Err("range has more than two variables".to_owned()),
                    }
                    inner.push((".".to_owned(), item));
                    fill(body, &inner, text)?;
                }
            }
        }
    }
    Ok(())
}

/// The innermost meaning of a name; fields of the whole are `$.PodCIDR` inside of a range.
fn look_up(names: &Names, name: &str) -> Result<Value, String> {
    let plain = name.strip_prefix('$').filter(|rest| rest.starts_with('.')).unwrap_or(name);
    let found = names.iter().rev().find(|(known, _)| known == plain);
    found.map(|(_, value)| value.clone()).ok_or_else(|| {
        format!("{name} is not known here; there are .PodCIDR, .PodCIDRRanges and .Routes")
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ipnet::IpNet;

    use super::{FILE, render, render_to};

    fn cidrs(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn templates_as_users_of_containerd_have_them() {
        let both = cidrs(&["10.1.0.0/24", "fd01::/64"]);
        let render = |source: &str| render(source, &both);
        assert_eq!(render(r#""{{.PodCIDR}}""#).unwrap(), r#""10.1.0.0/24""#);
        let ranges = r#"[{{range $i, $range := .PodCIDRRanges}}{{if $i}}, {{end}}[{"subnet":
            "{{$range}}"}]{{end}}]"#;
        let expected = r#"[[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd01::/64"}]]"#;
        let without_breaks = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(without_breaks(render(ranges).unwrap()), expected);
        assert_eq!(render("{{range .Routes}}<{{.}}>{{end}}").unwrap(), "<0.0.0.0/0><::/0>");
        assert_eq!(render("a {{- if .Routes -}} b {{- else}} c{{end}}").unwrap(), "ab");
        for (wrong, part) in [
            ("{{.Other}}", ".PodCIDRRanges"),
            ("{{range .PodCIDR}}{{end}}", "no list"),
            ("{{if .PodCIDR}}", "has no {{end}}"),
            ("{{end}}", "without a beginning"),
            ("{{.PodCIDR", "without }}"),
            ("{{printf \"%s\" .PodCIDR}}", "not understood"),
        ] {
            let reason = render(wrong).unwrap_err();
            assert!(reason.contains(part), "{wrong}: {reason}");
        }
        assert!(render(&"{{if .Routes}}".repeat(10_000)).is_err());
    }

    #[test]
    fn only_what_can_be_used_takes_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let (template, net) = (directory.path().join("t"), directory.path().join("net.d"));
        let both = cidrs(&["10.1.0.0/24"]);
        fs::write(&template, r#"{"name": "{{.PodCIDR}}", "plugins": [{"type": "x"}]}"#).unwrap();
        assert!(render_to(&template, &net, &both).is_err());
        assert!(!net.join(FILE).exists());
        let text = r#"{"cniVersion": "1.0.0", "name": "net", "plugins": [
            {"type": "x", "ipam": {"subnet": "{{.PodCIDR}}"}}]}"#;
        fs::write(&template, text).unwrap();
        render_to(&template, &net, &both).unwrap();
        assert!(fs::read_to_string(net.join(FILE)).unwrap().contains("10.1.0.0/24"));
        assert_eq!(fs::read_dir(&net).unwrap().count(), 1);
    }
}
