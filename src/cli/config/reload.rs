//! What of a changed configuration takes effect while the daemon runs, and what does not.

use toml::{Table, Value};

use super::{Config, file::insert};

/// The keys that a reload applies; the sample says of each that it does.
pub const RELOADED: [&str; 9] = [
    "log_level",
    "runtime_handlers",
    "containers.cdi_spec_dirs",
    "security.apparmor_profile",
    "security.seccomp_default",
    "image.pinned_images",
    "registry.blocked",
    "registry.insecure",
    "registry.auth_files",
];

/// A key that has another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// As in `network.bridge`.
    pub key: String,
    /// What holds, as TOML.
    pub old: String,
    /// What the configuration says now.
    pub new: String,
}

/// What has changed between two configurations.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What takes effect at once.
    pub applied: Vec<Change>,
    /// What takes effect with a restart.
    pub put_off: Vec<Change>,
}

impl Config {
    /// What changes if this one becomes `new`, as far as it can.
    pub fn changes_to(&self, new: &Config) -> Changes {
        let mut changes = Changes::default();
        let new = values(&table(new));
        for (path, old) in values(&table(self)) {
            let key = path.join(".");
            let now = new.iter().find(|(other, _)| *other == path).map(|(_, value)| value);
            let Some(now) = now.filter(|now| **now != old) else { continue };
            let change = Change { old: old.to_string(), new: now.to_string(), key };
            match RELOADED.contains(&change.key.as_str()) {
                true => changes.applied.push(change),
                false => changes.put_off.push(change),
            }
        }
        changes
    }

    /// This configuration with those values of `new` that a reload applies.
    ///
    /// # Errors
    /// None but by a mistake in the types: both are configurations.
    pub fn reloaded_with(&self, new: &Config) -> Result<Self, toml::de::Error> {
        let mut merged = table(self);
        for (path, value) in values(&table(new)) {
            if RELOADED.contains(&path.join(".").as_str()) {
                insert(&mut merged, &path, value);
            }
        }
        merged.try_into()
    }
}

fn table(config: &Config) -> Table {
    // A configuration came from such a table.
    Table::try_from(config).unwrap_or_default()
}

/// All keys with their tables, and their values.
fn values(table: &Table) -> Vec<(Vec<String>, Value)> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => found.extend(values(inner).into_iter().map(|(path, value)| {
                let path = std::iter::once(key.clone()).chain(path).collect();
                (path, value)
            })),
            value => found.push((vec![key.clone()], value.clone())),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Change, RELOADED};
    use crate::cli::config::{Config, SAMPLE};

    fn changed() -> Config {
        let mut config = Config { log_level: "debug".to_owned(), ..Config::default() };
        config.registry.blocked = vec!["quay.io".to_owned()];
        config.network.bridge = "other0".to_owned();
        config
    }

    #[test]
    fn each_change_is_told_with_both_values() {
        let changes = Config::default().changes_to(&changed());
        let change = |key: &str, old: &str, new: &str| Change {
            key: key.to_owned(),
            old: old.to_owned(),
            new: new.to_owned(),
        };
        let applied = [
            change("log_level", "\"info\"", "\"debug\""),
            change("registry.blocked", "[]", "[\"quay.io\"]"),
        ];
        assert_eq!(changes.applied, applied);
        assert_eq!(changes.put_off, [change("network.bridge", "\"criquet0\"", "\"other0\"")]);
        assert_eq!(changed().changes_to(&changed()), Default::default());
    }

    #[test]
    fn what_needs_a_restart_is_told_again_by_the_next_reload() {
        let now = Config::default().reloaded_with(&changed()).unwrap();
        assert_eq!((now.log_level.as_str(), now.network.bridge.as_str()), ("debug", "criquet0"));
        let changes = now.changes_to(&changed());
        assert!(changes.applied.is_empty());
        assert_eq!(changes.put_off.len(), 1);
    }

    #[test]
    fn the_sample_says_which_keys_are_reloaded() {
        let (mut table, mut said) = (String::new(), Vec::new());
        for block in SAMPLE.split("\n\n") {
            if let Some(name) = block.trim().lines().last().and_then(|l| l.strip_prefix('[')) {
                table = format!("{}.", name.trim_end_matches(']'));
            }
            let key = block.trim().lines().last().and_then(|line| line.strip_prefix("# "));
            let key = key.and_then(|line| line.split_once(" = ")).map(|(key, _)| key);
            if block.replace("\n# ", " ").contains("Reloaded with SIGHUP.") {
                said.push(format!("{table}{}", key.unwrap()));
            }
        }
        said.sort();
        let mut keys = RELOADED.map(str::to_owned).to_vec();
        keys.sort();
        assert_eq!(said, keys);
    }
}
