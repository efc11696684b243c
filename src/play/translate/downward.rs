//! What a pod is told of itself (`fieldRef`, `resourceFieldRef`).

use k8s_openapi::api::core::v1::{Pod, ResourceFieldSelector};

use super::{Problem, plan::Facts, resources::Wanted};
use crate::quantity;

/// What can be told.
pub(super) struct Downward<'a> {
    pub pod: &'a Pod,
    pub facts: &'a Facts,
    /// Names, and what each container wants.
    pub wanted: &'a [(String, Wanted)],
}

impl Downward<'_> {
    /// The value of a field. Addresses are empty before the pod has any.
    pub(super) fn field(&self, path: &str, field: &str) -> Result<String, Problem> {
        let metadata = &self.pod.metadata;
        let spec = self.pod.spec.as_ref();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let first = |all: &[String]| all.first().cloned().unwrap_or_default();
        if let Some((of, name)) = field.strip_suffix("']").and_then(|field| field.split_once("['"))
        {
            let map = match of {
                "metadata.labels" => &metadata.labels,
                "metadata.annotations" => &metadata.annotations,
                _ => return Err(unknown(path, field)),
            };
            return Ok(map.as_ref().and_then(|map| map.get(name)).cloned().unwrap_or_default());
        }
        Ok(match field {
            "metadata.name" => text(&metadata.name),
            "metadata.namespace" => super::namespace(self.pod),
            "metadata.uid" => self.facts.uid.clone(),
            "metadata.labels" => lines(metadata.labels.iter().flatten()),
            "metadata.annotations" => lines(metadata.annotations.iter().flatten()),
            "spec.nodeName" => self.facts.node_name.clone(),
            "spec.serviceAccountName" => spec
                .and_then(|spec| spec.service_account_name.clone())
                .unwrap_or_else(|| "default".to_owned()),
            "status.hostIP" => first(&self.facts.host_addresses),
            "status.hostIPs" => self.facts.host_addresses.join(","),
            "status.podIP" => first(&self.facts.pod_addresses),
            "status.podIPs" => self.facts.pod_addresses.join(","),
            _ => return Err(unknown(path, field)),
        })
    }

    /// The value of a request or a limit; without a limit it is what the node has.
    pub(super) fn resource(
        &self,
        path: &str,
        own: &str,
        selector: &ResourceFieldSelector,
    ) -> Result<String, Problem> {
        let name = selector.container_name.as_deref().unwrap_or(own);
        let wanted = self.wanted.iter().find(|(known, _)| known == name).map(|(_, wanted)| wanted);
        let wanted = wanted.ok_or_else(|| {
            Problem::new(format!("{path}.containerName"), format!("names no container: {name:?}"))
        })?;
        let processors = self.facts.processors * 1000;
        // Thousandths of processors, and bytes.
        let (value, is_cpu) = match selector.resource.as_str() {
            "limits.cpu" => (wanted.cpu_limit.unwrap_or(processors), true),
            "requests.cpu" => (wanted.cpu_request.unwrap_or(0), true),
            "limits.memory" => (wanted.memory_limit.unwrap_or(self.facts.memory), false),
            "requests.memory" => (wanted.memory_request.unwrap_or(0), false),
            other => {
                let reason =
                    format!("{other:?} is not known: limits and requests of cpu and memory are");
                return Err(Problem::new(format!("{path}.resource"), reason));
            }
        };
        let divisor = selector.divisor.as_ref().map_or("1", |divisor| divisor.0.as_str());
        // `0` is what an absent divisor is written as.
        let divisor = if divisor == "0" { "1" } else { divisor };
        let divisor = match is_cpu {
            true => quantity::thousandths(divisor),
            false => quantity::whole(divisor),
        };
        match divisor {
            Some(divisor) if divisor > 0 => Ok(value.div_ceil(divisor).to_string()),
            _ => Err(Problem::new(format!("{path}.divisor"), "is nothing to divide by")),
        }
    }
}

fn unknown(path: &str, field: &str) -> Problem {
    Problem::new(
        format!("{path}.fieldPath"),
        format!(
            "{field:?} is not known: metadata.name, namespace, uid, labels['…'], annotations['…'], \
             spec.nodeName, spec.serviceAccountName, status.podIP, podIPs, hostIP and hostIPs are"
        ),
    )
}

/// As the kubelet writes them into files.
fn lines<'a>(pairs: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    pairs.map(|(name, value)| format!("{name}={value:?}\n")).collect()
}
