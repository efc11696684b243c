//! Probes and what is done at the start and the end of a container.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, LifecycleHandler, Probe as Given},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    Problem,
    plan::{Action, Http, Probe},
};

/// A probe with Kubernetes' own values where nobody has said any.
pub(super) fn probe(
    container: &Container,
    path: &str,
    given: Option<&Given>,
    problems: &mut Vec<Problem>,
) -> Option<Probe> {
    let given = given?;
    let actions = [
        given.exec.as_ref().map(|exec| Ok(Action::Exec(exec.command.clone().unwrap_or_default()))),
        given.http_get.as_ref().map(|get| http(container, &format!("{path}.httpGet"), get)),
        given.tcp_socket.as_ref().map(|socket| {
            let port = port(container, &format!("{path}.tcpSocket.port"), &socket.port)?;
            Ok(Action::Tcp { host: socket.host.clone(), port })
        }),
        given.grpc.as_ref().map(|grpc| {
            let given = IntOrString::Int(grpc.port);
            let port = port(container, &format!("{path}.grpc.port"), &given)?;
            Ok(Action::Grpc { port, service: grpc.service.clone().unwrap_or_default() })
        }),
    ];
    let action = the_one(path, actions, "exec, httpGet, tcpSocket or grpc", problems)?;
    let seconds = |value: Option<i32>, usual: u64| {
        Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(usual))
    };
    let at_least_one = |value: Option<i32>, usual: u64| match seconds(value, usual) {
        Duration::ZERO => Duration::from_secs(usual),
        time => time,
    };
    let count = |value: Option<i32>, usual: u32| {
        value
            .and_then(|value| u32::try_from(value).ok())
            .filter(|value| *value > 0)
            .unwrap_or(usual)
    };
    let grace = given.termination_grace_period_seconds.and_then(|grace| u64::try_from(grace).ok());
    Some(Probe {
        action,
        delay: seconds(given.initial_delay_seconds, 0),
        timeout: at_least_one(given.timeout_seconds, 1),
        period: at_least_one(given.period_seconds, 10),
        successes: count(given.success_threshold, 1),
        failures: count(given.failure_threshold, 3),
        grace: grace.map(Duration::from_secs),
    })
}

/// What is done at a start or an end.
pub(super) fn handler(
    container: &Container,
    path: &str,
    given: Option<&LifecycleHandler>,
    problems: &mut Vec<Problem>,
) -> Option<Action> {
    let given = given?;
    let actions = [
        given.exec.as_ref().map(|exec| Ok(Action::Exec(exec.command.clone().unwrap_or_default()))),
        given.http_get.as_ref().map(|get| http(container, &format!("{path}.httpGet"), get)),
        given.sleep.as_ref().map(|sleep| {
            Ok(Action::Sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))))
        }),
        None,
    ];
    the_one(path, actions, "exec, httpGet or sleep", problems)
}

fn the_one(
    path: &str,
    actions: [Option<Result<Action, Problem>>; 4],
    wanted: &str,
    problems: &mut Vec<Problem>,
) -> Option<Action> {
    let mut given = actions.into_iter().flatten();
    let (first, second) = (given.next(), given.next());
    match (first, second) {
        (Some(Ok(Action::Exec(command))), None) if command.is_empty() => {
            problems.push(Problem::new(format!("{path}.exec.command"), "is missing"));
            None
        }
        (Some(Ok(action)), None) => Some(action),
        (Some(Err(problem)), None) => {
            problems.push(problem);
            None
        }
        _ => {
            problems.push(Problem::new(path, format!("must have exactly one of {wanted}")));
            None
        }
    }
}

fn http(container: &Container, path: &str, get: &HTTPGetAction) -> Result<Action, Problem> {
    let target = get.path.clone().unwrap_or_default();
    let headers = get.http_headers.iter().flatten();
    Ok(Action::Http(Http {
        is_tls: get.scheme.as_deref() == Some("HTTPS"),
        host: get.host.clone().filter(|host| !host.is_empty()),
        port: port(container, &format!("{path}.port"), &get.port)?,
        path: if target.starts_with('/') { target } else { format!("/{target}") },
        headers: headers.map(|header| (header.name.clone(), header.value.clone())).collect(),
    }))
}

/// A port by its number, or by the name that the container has for it.
fn port(container: &Container, path: &str, given: &IntOrString) -> Result<u16, Problem> {
    let number = match given {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let named = ports.find(|port| port.name.as_ref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    let number = number.and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0);
    number.ok_or_else(|| Problem::new(path, "is neither a port nor the name of one"))
}
