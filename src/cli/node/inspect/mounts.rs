//! Mounts in the order in which they are made, and where they come from.

use serde_json::Value;

use super::{Known, words};
use crate::cli::text::wrapped;

/// What says nothing beyond the bind itself, or is said of nearly every mount.
const USUAL: [&str; 9] =
    ["bind", "rbind", "rprivate", "private", "rw", "nosuid", "noexec", "nodev", "strictatime"];

/// The longest place that has its source on the same line.
const PLACE: usize = 32;

/// A line for each mount, the root first.
pub(super) fn text(text: &mut String, known: &Known<'_>) {
    let spec = &known.info["runtimeSpec"];
    let Some(mounts) = spec["mounts"].as_array() else { return };
    text.push_str("\nMounts\n");
    let is_readonly = spec["root"]["readonly"] == true;
    let root = format!("image {}{}", known.container.map_or("", |one| one.image.as_str()), {
        if is_readonly { ", read-only" } else { ", with a writable layer" }
    });
    line(text, "/", &root);
    let asked = known.info["config"]["mounts"].as_array().cloned().unwrap_or_default();
    for mount in mounts {
        let place = mount["destination"].as_str().unwrap_or_default();
        line(text, place, &origin(mount, &asked));
    }
    // Images as volumes are mounted from layers, and stand in no spec.
    for volume in asked.iter().filter(|mount| !mount["image"]["image"].is_null()) {
        let image = volume["image"]["image"].as_str().unwrap_or_default();
        let part = volume["image_sub_path"].as_str().unwrap_or_default();
        let part = if part.is_empty() { String::new() } else { format!(", {part} of it") };
        let place = volume["container_path"].as_str().unwrap_or_default();
        if !mounts.iter().any(|mount| mount["destination"] == place) {
            line(text, place, &format!("image {image}{part}, read-only"));
        }
    }
}

fn line(text: &mut String, place: &str, origin: &str) {
    let beginning = format!("  {place:PLACE$} ");
    if place.chars().count() > PLACE {
        text.push_str(&format!("  {place}\n"));
        return wrapped(text, &" ".repeat(PLACE + 3), PLACE + 3, origin);
    }
    wrapped(text, &beginning, PLACE + 3, origin);
}

/// What it is, and with which options.
fn origin(mount: &Value, asked: &[Value]) -> String {
    let kind = mount["type"].as_str().unwrap_or_default();
    let source = mount["source"].as_str().unwrap_or_default();
    let options = words::texts(&mount["options"]);
    let is_bind = options.iter().any(|option| matches!(*option, "bind" | "rbind"));
    let is_volume = asked.iter().any(|one| one["container_path"] == mount["destination"]);
    let mut words = vec![match (is_bind, is_volume) {
        (true, true) => source.to_owned(),
        (true, false) => format!("{source} (from the pod)"),
        (false, _) => kind.to_owned(),
    }];
    let others = options.iter().filter(|option| !USUAL.contains(option));
    words.extend(others.map(|option| match *option {
        "ro" => "read-only".to_owned(),
        "rro" => "read-only with all below it".to_owned(),
        "rslave" | "slave" => "sees later mounts of the host".to_owned(),
        "rshared" | "shared" => "shares later mounts with the host".to_owned(),
        other => other.to_owned(),
    }));
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::origin;

    #[test]
    fn where_mounts_come_from() {
        let asked = [json!({ "container_path": "/data", "host_path": "/srv" })];
        for (mount, words) in [
            (json!({ "destination": "/proc", "type": "proc", "options": ["nosuid"] }), "proc"),
            (
                json!({ "destination": "/data", "source": "/srv",
                        "options": ["rbind", "ro", "rslave"] }),
                "/srv, read-only, sees later mounts of the host",
            ),
            (
                json!({ "destination": "/etc/hosts", "source": "/run/hosts", "options": ["bind"] }),
                "/run/hosts (from the pod)",
            ),
            (
                json!({ "destination": "/dev", "type": "tmpfs", "options": ["mode=755"] }),
                "tmpfs, mode=755",
            ),
        ] {
            assert_eq!(origin(&mount, &asked), words);
        }
    }
}
