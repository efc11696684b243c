//! Pods and containers by what people call them.

use super::{
    error::Error,
    snapshot::{Container, Pod, RUNNING},
};
use crate::cli::text::short;

/// What a name means.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found<'a> {
    Pod(&'a Pod),
    Container(&'a Pod, &'a Container),
}

impl Found<'_> {
    /// A name that means nobody else.
    fn unique_name(&self) -> String {
        match self {
            Found::Pod(pod) => format!("pod {} ({})", pod.full_name(), short(&pod.id)),
            Found::Container(pod, container) => {
                let id = short(&container.id);
                format!("container {}/{} ({id})", pod.full_name(), container.name)
            }
        }
    }

    fn is_alive(&self) -> bool {
        match self {
            Found::Pod(pod) => pod.is_ready(),
            Found::Container(_, container) => container.state == RUNNING,
        }
    }
}

/// A pod or a container.
///
/// # Errors
/// Where the name means nobody, or several of which not exactly one lives.
pub(super) fn any<'a>(pods: &'a [Pod], name: &'a str) -> Result<Found<'a>, Error> {
    let all = pods.iter().filter(|pod| is_pod(pod, name)).map(Found::Pod);
    let all = all.chain(containers(pods, name)).collect();
    one(all, "pod or container", name)
}

/// A container, or the only one of a pod.
///
/// # Errors
/// Those of [`any`].
pub(super) fn container<'a>(
    pods: &'a [Pod],
    name: &'a str,
) -> Result<(&'a Pod, &'a Container), Error> {
    let mut found: Vec<_> = containers(pods, name).collect();
    if found.is_empty() {
        let named = pods.iter().filter(|pod| is_pod(pod, name));
        found =
            named.flat_map(|pod| latest(pod).map(move |one| Found::Container(pod, one))).collect();
    }
    match one(found, "container", name)? {
        Found::Container(pod, container) => Ok((pod, container)),
        Found::Pod(_) => Err(Error::Absent { what: "container", name: name.to_owned() }),
    }
}

fn is_pod(pod: &Pod, name: &str) -> bool {
    pod.name == name || pod.full_name() == name || is_beginning(name, &pod.id)
}

/// A beginning that is too short to be meant as one is a name.
fn is_beginning(name: &str, id: &str) -> bool {
    name.len() >= 3 && id.starts_with(name)
}

fn containers<'a>(pods: &'a [Pod], name: &'a str) -> impl Iterator<Item = Found<'a>> {
    pods.iter().flat_map(move |pod| {
        let by_id = pod.containers.iter().filter(|one| is_beginning(name, &one.id));
        let by_name = latest(pod).filter(|one| is_container(pod, one, name));
        let mut all: Vec<&Container> = by_id.chain(by_name).collect();
        all.dedup_by(|one, other| one.id == other.id);
        all.into_iter().map(move |one| Found::Container(pod, one))
    })
}

fn is_container(pod: &Pod, container: &Container, name: &str) -> bool {
    match name.rsplit_once('/') {
        None => container.name == name,
        Some((of, name)) => {
            container.name == name
                && (of == pod.name || of == pod.full_name() || is_beginning(of, &pod.id))
        }
    }
}

/// The latest container of each name.
fn latest(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.containers.iter().filter(|one| {
        let is_later =
            |other: &Container| (other.restarts, other.created_at) > (one.restarts, one.created_at);
        !pod.containers.iter().any(|other| other.name == one.name && is_later(other))
    })
}

/// The container of the same name that was there before this one.
pub(super) fn previous<'a>(pod: &'a Pod, container: &Container) -> Option<&'a Container> {
    let earlier = pod.containers.iter().filter(|one| {
        one.name == container.name
            && (one.restarts, one.created_at) < (container.restarts, container.created_at)
    });
    earlier.max_by_key(|one| (one.restarts, one.created_at))
}

/// Of several the only one that lives is meant.
fn one<'a>(found: Vec<Found<'a>>, what: &'static str, name: &str) -> Result<Found<'a>, Error> {
    let alive: Vec<&Found<'a>> = found.iter().filter(|one| one.is_alive()).collect();
    match (found.as_slice(), alive.as_slice()) {
        ([], _) => Err(Error::Absent { what, name: name.to_owned() }),
        ([one], _) => Ok(*one),
        (_, [one]) => Ok(**one),
        (all, _) => Err(Error::Ambiguous {
            name: name.to_owned(),
            candidates: all.iter().map(Found::unique_name).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::node::snapshot::READY;

    fn pods() -> Vec<Pod> {
        let container = |id: &str, name: &str, state, restarts| Container {
            id: id.repeat(8),
            name: name.to_owned(),
            state,
            restarts,
            ..Container::default()
        };
        let pod = |id: &str, namespace: &str, state, containers| Pod {
            id: id.repeat(8),
            namespace: namespace.to_owned(),
            name: "web".to_owned(),
            state,
            containers,
            ..Pod::default()
        };
        vec![
            pod(
                "0a",
                "one",
                READY,
                vec![
                    container("1b", "app", "exited", 0),
                    container("1c", "app", RUNNING, 1),
                    container("1d", "log", RUNNING, 0),
                ],
            ),
            pod("0b", "two", "not ready", vec![container("1e", "app", "exited", 0)]),
            pod("0c", "three", READY, vec![container("1f", "db", RUNNING, 0)]),
        ]
    }

    fn name_of(name: &str) -> String {
        match container(&pods(), name) {
            Ok((_, container)) => container.id[..2].to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn containers_have_many_names() {
        for (name, id) in [
            ("log", "1d"),
            ("web/log", "1d"),
            ("one/web/app", "1c"),
            ("two/web/app", "1e"),
            ("1b1b", "1b"),
            // The only one that lives.
            ("app", "1c"),
            ("three/web", "1f"),
            ("0c0c", "1f"),
        ] {
            assert_eq!(name_of(name), id, "{name}");
        }
        assert!(name_of("nobody").starts_with("no container is called nobody; `criquet ps -a`"));
        let several = name_of("one/web");
        assert!(
            several.starts_with("one/web means several: container one/web/app (1c"),
            "{several}"
        );
    }

    #[test]
    fn a_pod_or_a_container() {
        let all = pods();
        assert!(matches!(any(&all, "two/web").unwrap(), Found::Pod(pod) if pod.namespace == "two"));
        assert!(matches!(any(&all, "db").unwrap(), Found::Container(_, one) if one.name == "db"));
        let error = any(&all, "web").unwrap_err().to_string();
        assert!(error.contains("pod one/web (0a") && error.contains("name one of them"), "{error}");
    }

    #[test]
    fn the_one_before_is_the_last_of_its_name() {
        let all = pods();
        let before = previous(&all[0], &all[0].containers[1]).unwrap();
        assert_eq!(before.id, "1b".repeat(8));
        assert!(previous(&all[0], &all[0].containers[2]).is_none());
    }
}
