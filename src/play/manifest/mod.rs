//! From the text of a manifest to the objects in it, and all that is wrong with it.

mod content;
mod fields;
mod shape;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{Error, Problem};
use crate::{quantity, yaml};
pub(super) use content::Content;
use shape::Shape;

/// The objects of a manifest.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    /// The one pod.
    pub pod: Pod,
    /// By name.
    pub config_maps: BTreeMap<String, ConfigMap>,
    /// By name.
    pub secrets: BTreeMap<String, Secret>,
    /// Paths of what means nothing on one node, and is passed over.
    pub passed_over: Vec<String>,
}

impl Manifest {
    /// Reads one or more documents: a pod, and what it needs of config maps and secrets.
    ///
    /// # Errors
    /// What is no YAML, is missing, or is not known here, each with its path.
    pub fn read(text: &str) -> Result<Self, Error> {
        let documents = yaml::documents(text).map_err(Error::Yaml)?;
        let mut manifest = Self::default();
        let mut pods = 0;
        let mut problems = Vec::new();
        let objects = documents.into_iter().filter(|document| !document.is_null());
        for object in objects.flat_map(items) {
            match object["kind"].as_str().unwrap_or_default() {
                "Pod" => {
                    pods += 1;
                    manifest.pod = manifest.one(&fields::POD, object, &mut problems)?;
                }
                "ConfigMap" => {
                    let one: ConfigMap =
                        manifest.one(&fields::CONFIG_MAP, object, &mut problems)?;
                    let name = one.metadata.name.clone().unwrap_or_default();
                    manifest.config_maps.insert(name, one);
                }
                "Secret" => {
                    let one: Secret = manifest.one(&fields::SECRET, object, &mut problems)?;
                    let name = one.metadata.name.clone().unwrap_or_default();
                    manifest.secrets.insert(name, one);
                }
                "" => return Err(Error::NoKind),
                kind => return Err(Error::Kind(kind.to_owned())),
            }
        }
        if !problems.is_empty() {
            return Err(Error::Problems(problems));
        }
        match pods {
            0 => Err(Error::NoPod),
            1 => Ok(manifest),
            count => Err(Error::SeveralPods(count)),
        }
    }

    /// An object that is understood, or an empty one and what is wrong with it.
    fn one<T: DeserializeOwned + Default>(
        &mut self,
        shape: &Shape,
        object: Value,
        problems: &mut Vec<Problem>,
    ) -> Result<T, Error> {
        let before = problems.len();
        shape.check("", &object, problems, &mut self.passed_over);
        if problems.len() > before {
            return Ok(T::default());
        }
        // Only bytes in base64 are looked at for the first time here.
        serde_json::from_value(without_nulls(object))
            .map_err(|error| Error::Object(error.to_string()))
    }
}

/// The objects of a `List`, or the one that it is.
fn items(object: Value) -> Vec<Value> {
    match &object["items"] {
        Value::Array(items) if object["kind"] == "List" => items.clone(),
        _ => vec![object],
    }
}

/// Fields without a value are as good as absent, and some types want to have it so.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

fn quantity_is_sound(text: &str) -> bool {
    quantity::whole(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        Manifest::read(text).unwrap_err().to_string()
    }

    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n";

    #[test]
    fn a_pod_with_what_it_needs() {
        let text = format!(
            "{POD}  - {{name: app, image: busybox}}\n  tolerations: [{{key: x}}]\n---\n\
             apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {{a: b}}\n---\n\
             apiVersion: v1\nkind: Secret\nmetadata: {{name: key}}\ndata: {{k: c2VjcmV0}}\n---\n"
        );
        let manifest = Manifest::read(&text).unwrap();
        assert_eq!(manifest.pod.spec.unwrap().containers[0].name, "app");
        assert_eq!(manifest.passed_over, ["spec.tolerations"]);
        let secret = manifest.secrets["key"].data.clone().unwrap();
        assert_eq!(secret["k"].0, b"secret");
        assert!(manifest.config_maps.contains_key("settings"));
    }

    #[test]
    fn all_that_is_not_known_is_refused_with_its_path() {
        let text = format!(
            "{POD}  - name: app\n    image: busybox\n    imagePullPolicies: Never\n    ports:\n\
             \x20   - {{containerPort: \"80\"}}\n    env: [{{name: A, value: 1}}]\n  volumes:\n\
             \x20 - {{name: v, persistentVolumeClaim: {{claimName: c}}}}\n  restartPolicy: Often\n"
        );
        let problems = problems(&text);
        for line in [
            "spec.containers[0].imagePullPolicies is not known here; did you mean imagePullPolicy?",
            "spec.containers[0].ports[0].containerPort must be a whole number, and is \"80\"",
            "spec.containers[0].env[0].value must be text, and is 1; put it into quotes",
            "spec.volumes[0].persistentVolumeClaim is not known here, or needs a cluster",
            "spec.restartPolicy must be one of Always, OnFailure, Never, and is \"Often\"",
        ] {
            assert!(problems.contains(line), "{line}\nis not in\n{problems}");
        }
    }

    #[test]
    fn what_is_no_pod_is_refused() {
        assert!(problems("kind: Deployment\n").contains("Deployment"));
        assert!(problems("").contains("no pod"));
        assert!(problems("a: [\n").contains("YAML"));
        let text = format!("{POD}  - {{name: a, image: b}}\n");
        assert!(problems(&format!("{text}---\n{text}")).contains("2 pods"));
    }
}
