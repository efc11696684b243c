//! `$(NAME)` in commands, arguments and values, as Kubernetes has it: `$$(NAME)` stays as
//! `$(NAME)`, and so does a name that nobody has defined.

use std::collections::BTreeMap;

pub(super) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let name = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        match (name, after.strip_prefix('$')) {
            (Some((name, behind)), _) => {
                match variables.get(name) {
                    Some(value) => out.push_str(value),
                    None => out.push_str(&format!("$({name})")),
                }
                rest = behind;
            }
            (None, Some(behind)) => {
                out.push('$');
                rest = behind;
            }
            (None, None) => {
                out.push('$');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn references_are_expanded_as_kubernetes_does() {
        let variables = [("A".to_owned(), "a".to_owned()), ("E".to_owned(), String::new())].into();
        for (text, expected) in [
            ("plain", "plain"),
            ("$(A)-$(A)", "a-a"),
            ("$(E)x", "x"),
            ("$(NOBODY)", "$(NOBODY)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$a"),
            ("$A ${A} $", "$A ${A} $"),
            ("$(A", "$(A"),
            ("a$$b", "a$b"),
        ] {
            assert_eq!(expand(text, &variables), expected, "{text}");
        }
    }
}
