//! The findings as a table and as JSON.

use std::fmt::Write;

use serde::Serialize;

use super::{Finding, Status};

/// A line for each finding, what to do below it, and a summary.
pub(super) fn table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.what.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let status = match finding.status {
            Status::Ok => "OK",
            Status::Warn => "WARN",
            Status::Fail => "FAIL",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{status:<4}  {:<width$}  {}", finding.what, finding.found);
        if !finding.mend.is_empty() {
            let _ = writeln!(text, "{:4}  {:width$}  -> {}", "", "", finding.mend);
        }
    }
    let _ = writeln!(text, "\n{}", summary(findings));
    text
}

fn summary(findings: &[Finding]) -> String {
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    match (count(Status::Fail), count(Status::Warn)) {
        (0, 0) => "This node has everything that pods can ask for.".to_owned(),
        (0, warnings) => format!("Pods can run here. Warnings: {warnings}."),
        (failures, warnings) => {
            format!("Pods cannot run here. Failures: {failures}, warnings: {warnings}.")
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    findings: &'a [Finding],
}

/// An object with the findings, for programs.
pub(super) fn json(findings: &[Finding]) -> String {
    let ok = findings.iter().all(|finding| finding.status != Status::Fail);
    let mut text =
        serde_json::to_string_pretty(&Report { ok, findings }).unwrap_or_else(|_| "{}".to_owned());
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::{Finding, json, table};

    fn findings() -> Vec<Finding> {
        vec![Finding::ok("kernel", "6.12"), Finding::warn("swap space", "none", "add some")]
    }

    #[test]
    fn columns_are_aligned_and_the_mend_stands_below() {
        let expected = "OK    kernel      6.12\n\
                        WARN  swap space  none\n                  -> add some\n\n\
                        Pods can run here. Warnings: 1.\n";
        assert_eq!(table(&findings()), expected);
    }

    #[test]
    fn json_is_for_programs() {
        let mut findings = findings();
        let value: serde_json::Value = serde_json::from_str(&json(&findings)).unwrap();
        assert_eq!(value["ok"], true);
        assert_eq!(value["findings"][1]["status"], "warn");
        assert_eq!(value["findings"][0].get("mend"), None);
        findings.push(Finding::fail("disk", "full", "make room"));
        let value: serde_json::Value = serde_json::from_str(&json(&findings)).unwrap();
        assert_eq!(value["ok"], false);
    }
}
