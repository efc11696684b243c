//! A container in words.

use serde_json::Value;

use super::{
    Known, mounts, namespaces,
    words::{fact, fact_if, limits, pairs, texts, usage},
};
use crate::{
    admin::v1::{IdRange, Process},
    cli::{
        image::size,
        node::snapshot::{Container, RUNNING},
        paint::Paint,
        text::duration,
        time,
    },
    spec::capabilities,
};

pub(super) fn text(known: &Known<'_>, container: &Container, paint: Paint) -> String {
    let pod = known.pod.full_name();
    let state = paint.mark(&format!("is {}", container.state), container.state == RUNNING);
    let mut text = format!("container {pod}/{} {state}\n\n", container.name);
    life(&mut text, known, container, paint);
    program(&mut text, known);
    let resources = known.status.resources.clone().and_then(|all| all.linux).unwrap_or_default();
    fact(&mut text, "cgroup", known.info["cgroup"].as_str().unwrap_or_default());
    fact(&mut text, "limits", &limits(&resources));
    fact(&mut text, "uses", &usage(&container.usage));
    let written = &known.info["writableLayer"];
    if let Some(bytes) = written["usedBytes"].as_u64() {
        let inodes = written["inodesUsed"].as_u64().unwrap_or(0);
        fact(&mut text, "has written", &format!("{} in {inodes} files", size(bytes)));
    }
    fact(&mut text, "OOM score", &resources.oom_score_adj.to_string());
    fact_if(&mut text, "log", &known.status.log_path);
    fact_if(&mut text, "labels", &pairs(&known.info["config"]["labels"]));
    fact_if(&mut text, "annotations", &pairs(&known.info["config"]["annotations"]));
    security(&mut text, known, container);
    namespaces::text(&mut text, known);
    mounts::text(&mut text, known);
    text
}

fn life(text: &mut String, known: &Known<'_>, container: &Container, paint: Paint) {
    fact(text, "id", &container.id);
    fact(text, "pod", &format!("{} ({})", known.pod.full_name(), known.pod.state));
    fact(text, "image", &container.image);
    fact_if(text, "image id", &known.status.image_id);
    let moment = |at: i64| {
        let ago = duration(time::age(at, time::now()));
        time::text(at).map(|text| format!("{text}, {ago} ago")).unwrap_or_default()
    };
    fact(text, "made", &moment(container.created_at));
    fact_if(text, "started", &moment(container.started_at));
    fact_if(text, "ended", &moment(container.finished_at));
    if let Some(code) = container.exit_code {
        let words = format!("{code} {}", container.reason);
        fact(text, "exit code", &paint.mark(words.trim_end(), code == 0));
        fact_if(text, "message", &known.status.message);
    }
    fact(text, "restarts", &container.restarts.to_string());
}

fn program(text: &mut String, known: &Known<'_>) {
    let process = &known.info["runtimeSpec"]["process"];
    let words: Vec<String> = texts(&process["args"]).into_iter().map(quoted).collect();
    fact(text, "command", &words.join(" "));
    fact(text, "directory", process["cwd"].as_str().unwrap_or_default());
    let user = &process["user"];
    let groups = user["additionalGids"].as_array().into_iter().flatten();
    let groups: Vec<String> = groups.map(Value::to_string).collect();
    let groups = match groups.as_slice() {
        [] => String::new(),
        groups => format!(", groups {}", groups.join(" ")),
    };
    let id = |value: &Value| value.as_u64().unwrap_or(0);
    fact(text, "user", &format!("{}, group {}{groups}", id(&user["uid"]), id(&user["gid"])));
    if let Some(pid) = known.info["pid"].as_u64().filter(|pid| *pid > 0) {
        fact(text, "process", &format!("pid {pid} of the host"));
    }
}

/// As a shell would take it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

fn security(text: &mut String, known: &Known<'_>, container: &Container) {
    text.push_str("\nSecurity\n");
    let spec = &known.info["runtimeSpec"];
    let asked = &known.info["config"]["linux"]["security_context"];
    let processes = &known.kernel.processes;
    let process = processes.iter().find(|process| process.container_id == container.id);
    if asked["privileged"] == true {
        fact(text, "privileged", "yes: nearly everything that root of the host may do");
    }
    match process {
        Some(process) => rights(text, process, asked),
        None => {
            let sets = &spec["process"]["capabilities"];
            fact(text, "capabilities", &names(&texts(&sets["bounding"])));
            fact(text, "system calls", &filter(asked, spec["linux"]["seccomp"].is_object()));
        }
    }
    let refused = known.info["refusedSystemCalls"].as_object().into_iter().flatten();
    let refused: Vec<_> = refused.map(|(name, count)| format!("{name} ({count})")).collect();
    fact_if(text, "refused calls", &refused.join(", "));
    for (name, key) in [("hidden paths", "maskedPaths"), ("read-only paths", "readonlyPaths")] {
        fact_if(text, name, &texts(&spec["linux"][key]).join(" "));
    }
}

fn rights(text: &mut String, process: &Process, asked: &Value) {
    let effective = of_bits(process.effective);
    let bounding = of_bits(process.bounding);
    fact(text, "capabilities", &names(&texts_of(&effective)));
    if process.bounding != process.effective {
        fact(text, "at most", &names(&texts_of(&bounding)));
    }
    if process.ambient != 0 {
        fact(text, "ambient", &names(&texts_of(&of_bits(process.ambient))));
    }
    fact(text, "system calls", &filter(asked, process.seccomp != 0));
    let may_gain = if process.no_new_privileges { "no" } else { "yes, by setuid programs" };
    fact(text, "gains rights", may_gain);
    let label = match process.label.as_str() {
        "" => "none (the kernel has neither AppArmor nor SELinux, or no profile is in force)",
        label => label,
    };
    fact(text, "label", label);
    fact(text, "users", &mapping(&process.uids));
    fact(text, "groups", &mapping(&process.gids));
}

fn of_bits(bits: u64) -> Vec<String> {
    let set = capabilities::from_bits(bits);
    let name = |one| serde_json::to_value(one).ok()?.as_str().map(str::to_owned);
    let mut names: Vec<String> = set.iter().filter_map(name).collect();
    names.sort();
    names
}

fn texts_of(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// All there are, as this program knows them.
const ALL: usize = 41;

fn names(names: &[&str]) -> String {
    let short = |name: &&str| name.trim_start_matches("CAP_").to_lowercase();
    match names {
        [] => "none".to_owned(),
        names if names.len() == ALL => "all".to_owned(),
        names => names.iter().map(short).collect::<Vec<_>>().join(" "),
    }
}

/// Which filter of system calls there is.
fn filter(asked: &Value, is_filtered: bool) -> String {
    let profile = &asked["seccomp"];
    if !is_filtered {
        return "not filtered".to_owned();
    }
    match profile["profile_type"].as_i64() {
        Some(2) => {
            let file = profile["localhost_ref"].as_str().unwrap_or_default();
            format!("filtered by the profile {file}")
        }
        _ => "filtered by the runtime's own profile".to_owned(),
    }
}

fn mapping(ranges: &[IdRange]) -> String {
    let word = |range: &IdRange| {
        if range.inside == range.outside && range.count == u32::MAX {
            return "those of the host".to_owned();
        }
        let last = |first: u32| u64::from(first) + u64::from(range.count) - 1;
        let (inside, outside) = (last(range.inside), last(range.outside));
        format!("{}-{inside} are {}-{outside} of the host", range.inside, range.outside)
    };
    ranges.iter().map(word).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rights_are_told_in_words() {
        let whole = IdRange { inside: 0, outside: 0, count: u32::MAX };
        let part = IdRange { inside: 0, outside: 100_000, count: 65_536 };
        assert_eq!(mapping(&[whole]), "those of the host");
        assert_eq!(mapping(&[part]), "0-65535 are 100000-165535 of the host");
        assert_eq!(names(&texts_of(&of_bits(0b101))), "chown dac_read_search");
        assert_eq!(names(&texts_of(&of_bits(u64::MAX >> (64 - ALL)))), "all");
        assert_eq!(names(&[]), "none");
        let localhost = json!({ "seccomp": { "profile_type": 2, "localhost_ref": "p.json" } });
        assert_eq!(filter(&localhost, true), "filtered by the profile p.json");
        assert_eq!(filter(&json!({}), true), "filtered by the runtime's own profile");
        assert_eq!(filter(&json!({}), false), "not filtered");
    }

    #[test]
    fn commands_can_be_copied_to_a_shell() {
        assert_eq!(quoted("/bin/sh"), "/bin/sh");
        assert_eq!(quoted("echo it's"), "'echo it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
