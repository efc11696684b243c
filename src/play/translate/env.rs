//! The environment of a container.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVarSource};

use super::{Problem, downward::Downward, expand::expand};
use crate::{cri::v1::KeyValue, play::manifest::Manifest};

/// Names and values in their order; a name that comes twice has its last value.
pub(super) struct Environment {
    pub(super) variables: BTreeMap<String, String>,
    order: Vec<(String, Vec<u8>)>,
}

impl Environment {
    /// What a container says, config maps and secrets first.
    pub(super) fn of(
        container: &Container,
        path: &str,
        manifest: &Manifest,
        downward: &Downward<'_>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut own = Self { variables: BTreeMap::new(), order: Vec::new() };
        for (number, source) in container.env_from.iter().flatten().enumerate() {
            let path = format!("{path}.envFrom[{number}]");
            let prefix = source.prefix.as_deref().unwrap_or_default();
            let all = if let Some(of) = &source.config_map_ref {
                manifest.config_map(&format!("{path}.configMapRef"), &of.name, of.optional)
            } else if let Some(of) = &source.secret_ref {
                manifest.secret(&format!("{path}.secretRef"), &of.name, of.optional)
            } else {
                Err(Problem::new(path, "names neither a config map nor a secret"))
            };
            match all {
                Ok(all) => {
                    all.into_iter()
                        .for_each(|(name, value)| own.set(format!("{prefix}{name}"), value));
                }
                Err(problem) => problems.push(problem),
            }
        }
        for (number, variable) in container.env.iter().flatten().enumerate() {
            let path = format!("{path}.env[{number}]");
            if variable.name.is_empty() || variable.name.contains('=') {
                problems.push(Problem::new(format!("{path}.name"), "is no name of a variable"));
            }
            let value = match (&variable.value, &variable.value_from) {
                (Some(_), Some(_)) => Err(Problem::new(path, "has both a value and a valueFrom")),
                (_, Some(source)) => {
                    let path = format!("{path}.valueFrom");
                    from(&path, &container.name, source, manifest, downward)
                }
                (value, None) => {
                    let text = expand(value.as_deref().unwrap_or_default(), &own.variables);
                    Ok(Some(text.into_bytes()))
                }
            };
            match value {
                Ok(Some(value)) => own.set(variable.name.clone(), value),
                // Optional, and not there.
                Ok(None) => {}
                Err(problem) => problems.push(problem),
            }
        }
        own
    }

    fn set(&mut self, name: String, value: Vec<u8>) {
        self.order.retain(|(known, _)| *known != name);
        self.variables.insert(name.clone(), String::from_utf8_lossy(&value).into_owned());
        self.order.push((name, value));
    }

    /// For the runtime.
    pub(super) fn pairs(self) -> Vec<KeyValue> {
        self.order.into_iter().map(|(key, value)| KeyValue { key, value }).collect()
    }
}

fn from(
    path: &str,
    container: &str,
    source: &EnvVarSource,
    manifest: &Manifest,
    downward: &Downward<'_>,
) -> Result<Option<Vec<u8>>, Problem> {
    if let Some(field) = &source.field_ref {
        let value = downward.field(&format!("{path}.fieldRef"), &field.field_path)?;
        return Ok(Some(value.into_bytes()));
    }
    if let Some(selector) = &source.resource_field_ref {
        let path = format!("{path}.resourceFieldRef");
        return Ok(Some(downward.resource(&path, container, selector)?.into_bytes()));
    }
    let (path, all, key, optional) = if let Some(of) = &source.config_map_key_ref {
        let path = format!("{path}.configMapKeyRef");
        let all = manifest.config_map(&path, &of.name, of.optional)?;
        (path, all, &of.key, of.optional)
    } else if let Some(of) = &source.secret_key_ref {
        let path = format!("{path}.secretKeyRef");
        let all = manifest.secret(&path, &of.name, of.optional)?;
        (path, all, &of.key, of.optional)
    } else {
        return Err(Problem::new(path, "names nothing that a value could come from"));
    };
    match all.get(key) {
        Some(value) => Ok(Some(value.clone())),
        None if optional == Some(true) => Ok(None),
        None => Err(Problem::new(format!("{path}.key"), format!("there is no {key:?} in it"))),
    }
}
