//! The chain of a network's plugins: forwards to add a pod, backwards to remove it.

use serde_json::{Map, Value, json};

use super::{
    super::{
        Error,
        request::{Addresses, PodRequest},
    },
    ATTACHMENTS, Cni, aside,
    attachment::{Attached, Attachment, addresses},
    capability,
    list::NetworkList,
};
use crate::{crash, store::Batch};

impl Cni {
    /// Adds the pod to one network after the other.
    pub(super) async fn add_all(&self, attachment: &mut Attachment) -> Result<Addresses, Error> {
        let mut found = Addresses::default();
        for index in 0..attachment.networks.len() {
            let Some(attached) = attachment.networks.get(index) else { break };
            let result = self.add(attachment, attached).await?;
            let last = attached.list.plugins.last().map(kind_of).unwrap_or_default();
            let ips = addresses(&result).map_err(|reason| Error::PluginResult {
                plugin: last.to_owned(),
                verb: "ADD",
                reason,
            })?;
            crash::point("CNI: added, and not recorded");
            {
                let (cache, attached, result) =
                    (self.cache.clone(), attached.clone(), result.clone());
                let (pod, netns) = (attachment.request.clone(), attachment.netns.clone());
                let values = capability::values(&pod, &attachment.ranges)?;
                aside(move || cache.write(&pod, &netns, &attached, &values, &result)).await?;
            }
            found.ips.extend(ips);
            found.interfaces.push(attached.interface.clone());
            if index == 0 {
                found.network = attached.list.name.clone();
            }
            if let Some(attached) = attachment.networks.get_mut(index) {
                attached.result = Some(result);
            }
            self.record(attachment).await?;
        }
        Ok(found)
    }

    async fn add(&self, attachment: &Attachment, attached: &Attached) -> Result<Value, Error> {
        let values = capability::values(&attachment.request, &attachment.ranges)?;
        let environment = environment(&attachment.request, &attached.interface, &attachment.netns);
        let call = self.call("ADD", &environment).await;
        let mut previous = None;
        for plugin in &attached.list.plugins {
            let mut configuration = configuration(&attached.list, plugin, Some(&values));
            insert_previous(&mut configuration, previous.as_ref());
            let result = call.execute(kind_of(plugin), &configuration).await?;
            crash::point("CNI: a plugin has added");
            previous = result.or(previous);
        }
        Ok(previous.unwrap_or_else(|| json!({})))
    }

    /// Asks the plugins of all networks whether the pod still has what they gave it. Those
    /// that do not know the question are passed by, and networks that are not to be asked.
    pub(super) async fn check_all(&self, attachment: &Attachment) -> Result<(), Error> {
        let values = capability::values(&attachment.request, &attachment.ranges)?;
        for attached in &attachment.networks {
            let list = &attached.list;
            let Some(result) = &attached.result else { continue };
            if list.disable_check || !list.speaks("0.4.0") {
                continue;
            }
            let environment =
                environment(&attachment.request, &attached.interface, &attachment.netns);
            let call = self.call("CHECK", &environment).await;
            for plugin in &list.plugins {
                let mut configuration = configuration(list, plugin, Some(&values));
                insert_previous(&mut configuration, Some(result));
                call.execute_if_known(kind_of(plugin), &configuration).await?;
            }
        }
        Ok(())
    }

    /// Detaches in reverse order, goes on after a failure, and forgets the pod only when
    /// all is done.
    pub(super) async fn remove_all(
        &self,
        attachment: &Attachment,
        netns: &str,
    ) -> Result<(), Error> {
        let sandbox = &attachment.request.sandbox_id;
        let values = capability::values(&attachment.request, &attachment.ranges)?;
        let mut outcome = Ok(());
        for attached in attachment.networks.iter().rev() {
            let environment = environment(&attachment.request, &attached.interface, netns);
            let mut removed = self.remove(attached, &values, &environment).await;
            if removed.is_ok() {
                let (cache, sandbox, attached) =
                    (self.cache.clone(), sandbox.clone(), attached.clone());
                removed = aside(move || cache.remove(&sandbox, &attached)).await;
            }
            outcome = outcome.and(removed);
        }
        outcome?;
        // It is so whether or not a full disk takes it.
        self.database.observe(Batch::without(ATTACHMENTS, sandbox)).later();
        Ok(())
    }

    /// Detaches a pod from one network, with what is known about the pod by capability.
    pub(super) async fn remove(
        &self,
        attached: &Attached,
        values: &Map<String, Value>,
        environment: &Environment,
    ) -> Result<(), Error> {
        let call = self.call("DEL", environment).await;
        for plugin in attached.list.plugins.iter().rev() {
            let mut configuration = configuration(&attached.list, plugin, Some(values));
            if attached.list.speaks("0.4.0") {
                insert_previous(&mut configuration, attached.result.as_ref());
            }
            call.execute(kind_of(plugin), &configuration).await?;
            crash::point("CNI: a plugin has deleted");
        }
        Ok(())
    }
}

/// A plugin's configuration as it is given to it: its own, the network's name and version,
/// and of what is known about the pod that which the plugin declares to understand.
pub(super) fn configuration(
    list: &NetworkList,
    plugin: &Map<String, Value>,
    values: Option<&Map<String, Value>>,
) -> Value {
    let mut object = plugin.clone();
    object.insert("name".to_owned(), json!(list.name));
    object.insert("cniVersion".to_owned(), json!(list.version));
    let declared = object.remove("capabilities");
    let declared = declared.as_ref().and_then(Value::as_object);
    let wanted = |key: &String| {
        declared.and_then(|declared| declared.get(key)).is_some_and(|value| *value == json!(true))
    };
    let runtime: Map<String, Value> = values
        .into_iter()
        .flatten()
        .filter(|(key, _)| wanted(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if !runtime.is_empty() {
        object.insert("runtimeConfig".to_owned(), Value::Object(runtime));
    }
    Value::Object(object)
}

fn insert_previous(configuration: &mut Value, previous: Option<&Value>) {
    if let (Some(object), Some(previous)) = (configuration.as_object_mut(), previous) {
        object.insert("prevResult".to_owned(), previous.clone());
    }
}

/// What plugins are told by variables.
pub(super) type Environment = [(&'static str, String); 4];

fn environment(pod: &PodRequest, interface: &str, netns: &str) -> Environment {
    environment_of(&pod.sandbox_id, interface, netns, capability::arguments_text(pod))
}

/// The variables, with the value of the last one.
pub(super) fn environment_of(
    sandbox: &str,
    interface: &str,
    netns: &str,
    arguments: String,
) -> Environment {
    [
        ("CNI_CONTAINERID", sandbox.to_owned()),
        ("CNI_NETNS", netns.to_owned()),
        ("CNI_IFNAME", interface.to_owned()),
        ("CNI_ARGS", arguments),
    ]
}

/// The plugin's program.
pub(super) fn kind_of(plugin: &Map<String, Value>) -> &str {
    plugin.get("type").and_then(Value::as_str).unwrap_or_default()
}
