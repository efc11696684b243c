//! From a manifest to what is to be made: pure, so that it can be tried out before anything is.
//!
//! Entry point: [`Plan::of`], once before the sandbox is there, which finds all that is wrong,
//! and once more when the pod has addresses, which its containers may want to be told.

mod downward;
mod env;
mod expand;
mod plan;
mod probes;
mod resources;
mod sandbox;
mod security;
#[cfg(test)]
mod tests;
mod volumes;

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container as Given, Pod, PodSpec};

use super::{
    error::{Error, Problem},
    manifest::Manifest,
};
use crate::cri::v1::{
    ContainerConfig, ContainerMetadata, ImageSpec, LinuxContainerConfig, Mount, Signal,
};
use downward::Downward;
use env::Environment;
pub use plan::{
    Action, Container, Facts, File, Http, Plan, Probe, Pull, Restart, Source, SubPath, Volume,
};
use resources::Wanted;
pub use sandbox::{LABEL_NAME, LABEL_NAMESPACE, LABEL_UID};
pub(super) use volumes::place;

/// How long containers may take to end, unless a pod says otherwise.
const USUAL_GRACE: u64 = 30;

/// The longest name of a pod, of a container, of a volume (RFC 1123).
const LONGEST_NAME: usize = 63;

/// The namespace of a pod that names none.
fn namespace(pod: &Pod) -> String {
    pod.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned())
}

impl Plan {
    /// What is to be made of a manifest on this node.
    ///
    /// # Errors
    /// All that is wrong, each with its path.
    pub fn of(manifest: &Manifest, facts: &Facts) -> Result<Self, Error> {
        let mut translation = Translation {
            manifest,
            facts,
            wanted: Vec::new(),
            problems: Vec::new(),
            notes: Vec::new(),
        };
        let plan = translation.plan();
        match translation.problems {
            problems if problems.is_empty() => Ok(plan),
            problems => Err(Error::Problems(problems)),
        }
    }
}

struct Translation<'a> {
    manifest: &'a Manifest,
    facts: &'a Facts,
    /// Names of containers, and what each wants.
    wanted: Vec<(String, Wanted)>,
    problems: Vec<Problem>,
    notes: Vec<String>,
}

impl Translation<'_> {
    fn problem(&mut self, path: impl Into<String>, reason: &str) {
        self.problems.push(Problem::new(path, reason));
    }

    fn plan(&mut self) -> Plan {
        let pod = &self.manifest.pod;
        let Some(spec) = pod.spec.clone() else {
            self.problem("spec", "is missing");
            return Plan::default();
        };
        let init = spec.init_containers.clone().unwrap_or_default();
        self.names(pod, &spec, &init);
        for (path, of) in [("spec.initContainers", &init), ("spec.containers", &spec.containers)] {
            for (number, one) in of.iter().enumerate() {
                let path = format!("{path}[{number}]");
                let path = format!("{path}.resources");
                let given = one.resources.as_ref();
                let wanted = Wanted::of(given, &path, &mut self.problems, &mut self.notes);
                self.wanted.push((one.name.clone(), wanted));
            }
        }
        let wanted = self.wanted.clone();
        let downward = Downward { pod, facts: self.facts, wanted: &wanted };
        let volumes = volumes::all(self.manifest, &downward, &mut self.problems, &mut self.notes);
        let of_pod = self.of_pod(&spec, &init);
        let sandbox = sandbox::config(pod, &spec, self.facts, &of_pod, &mut self.problems);
        let mut all = |path: &str, of: &[Given]| -> Vec<Container> {
            let numbered = of.iter().enumerate();
            numbered
                .map(|(number, one)| {
                    self.container(&format!("{path}[{number}]"), one, &spec, &downward, &volumes)
                })
                .collect()
        };
        let mut init = all("spec.initContainers", &init);
        let containers = all("spec.containers", &spec.containers);
        for one in &mut init {
            one.restart = match (one.is_sidecar, one.restart) {
                (true, _) => Restart::Always,
                (false, Restart::Never) => Restart::Never,
                (false, _) => Restart::OnFailure,
            };
        }
        self.note_passed_over(&spec);
        let seconds = |value: i64| Duration::from_secs(u64::try_from(value).unwrap_or(0));
        Plan {
            name: pod.metadata.name.clone().unwrap_or_default(),
            namespace: namespace(pod),
            sandbox,
            handler: spec.runtime_class_name.clone().unwrap_or_default(),
            volumes,
            init,
            containers,
            grace: spec
                .termination_grace_period_seconds
                .map_or(Duration::from_secs(USUAL_GRACE), seconds),
            deadline: spec.active_deadline_seconds.map(seconds),
            notes: std::mem::take(&mut self.notes),
        }
    }

    /// What the pod as a whole may use, as it says itself or as its containers do.
    fn of_pod(&mut self, spec: &PodSpec, init: &[Given]) -> Wanted {
        let is_sidecar = init.iter().map(|one| one.restart_policy.is_some());
        let (first, others) = self.wanted.split_at(init.len());
        let first: Vec<_> = first.iter().map(|(_, wanted)| *wanted).zip(is_sidecar).collect();
        let others: Vec<_> = others.iter().map(|(_, wanted)| *wanted).collect();
        let sum = resources::of_pod(&first, &others);
        let given = spec.resources.as_ref();
        let own = Wanted::of(given, "spec.resources", &mut self.problems, &mut self.notes);
        Wanted {
            cpu_request: own.cpu_request.or(sum.cpu_request),
            cpu_limit: own.cpu_limit.or(sum.cpu_limit),
            memory_request: own.memory_request.or(sum.memory_request),
            memory_limit: own.memory_limit.or(sum.memory_limit),
        }
    }

    fn note_passed_over(&mut self, spec: &PodSpec) {
        let passed = self.manifest.passed_over.iter();
        self.notes.extend(passed.map(|path| format!("{path} means nothing here")));
        if spec.dns_policy.as_deref().is_some_and(|policy| policy.starts_with("Cluster")) {
            self.notes.push("spec.dnsPolicy: there is no cluster; names are the host's".to_owned());
        }
        if spec.image_pull_secrets.as_ref().is_some_and(|secrets| !secrets.is_empty()) {
            let words = "spec.imagePullSecrets: images are pulled with the node's credentials";
            self.notes.push(words.to_owned());
        }
    }

    fn names(&mut self, pod: &Pod, spec: &PodSpec, init: &[Given]) {
        match pod.metadata.name.as_deref() {
            None | Some("") => self.problem("metadata.name", "is missing"),
            Some(name) if !is_name(name, true) => self.problem("metadata.name", NO_NAME),
            Some(_) => {}
        }
        if !is_name(&namespace(pod), false) {
            self.problem("metadata.namespace", NO_NAME);
        }
        if spec.containers.is_empty() {
            self.problem("spec.containers", "is missing: there is nothing to run");
        }
        let mut known: Vec<&str> = Vec::new();
        for (path, of) in [("spec.initContainers", init), ("spec.containers", &spec.containers)] {
            for (number, one) in of.iter().enumerate() {
                let path = format!("{path}[{number}]");
                match one.name.as_str() {
                    "" => self.problem(format!("{path}.name"), "is missing"),
                    name if !is_name(name, false) => self.problem(format!("{path}.name"), NO_NAME),
                    name if known.contains(&name) => {
                        self.problem(format!("{path}.name"), "is another container's as well");
                    }
                    _ => {}
                }
                known.push(&one.name);
                if one.image.as_deref().unwrap_or_default().is_empty() {
                    self.problem(format!("{path}.image"), "is missing");
                }
                let is_init = path.starts_with("spec.init");
                if !is_init && one.restart_policy.is_some() {
                    let reason = "is for init containers: it makes one a sidecar";
                    self.problem(format!("{path}.restartPolicy"), reason);
                }
                let has_probes = one.liveness_probe.is_some()
                    || one.readiness_probe.is_some()
                    || one.startup_probe.is_some()
                    || one.lifecycle.is_some();
                if is_init && one.restart_policy.is_none() && has_probes {
                    let reason = "has probes or a lifecycle, which only sidecars can have \
                                  (`restartPolicy: Always`)";
                    self.problem(path, reason);
                }
            }
        }
    }

    fn container(
        &mut self,
        path: &str,
        given: &Given,
        spec: &PodSpec,
        downward: &Downward<'_>,
        volumes: &[Volume],
    ) -> Container {
        let facts = self.facts;
        let problems = &mut self.problems;
        let environment = Environment::of(given, path, self.manifest, downward, problems);
        let mappings = security::id_mappings(spec, facts.first_user);
        let node = (facts, mappings.as_slice());
        let variables = &environment.variables;
        let (mut mounts, sub_paths) =
            volumes::mounts(given, path, volumes, variables, node, problems);
        mounts.extend(host_aliases(spec, facts, given));
        let expanded = |texts: &Option<Vec<String>>| -> Vec<String> {
            texts.iter().flatten().map(|text| expand::expand(text, variables)).collect()
        };
        let (command, args) = (expanded(&given.command), expanded(&given.args));
        let all: Vec<Wanted> = self.wanted.iter().map(|(_, wanted)| *wanted).collect();
        let class = resources::class(&all);
        let own = self.wanted.iter().find(|(name, _)| *name == given.name);
        let own = own.map(|(_, wanted)| *wanted).unwrap_or_default();
        let lifecycle = given.lifecycle.clone().unwrap_or_default();
        let image = given.image.clone().unwrap_or_default();
        let security = security::of_container(spec, given, path, facts.first_user, problems);
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: given.name.clone(), attempt: 0 }),
            image: Some(ImageSpec {
                image: image.clone(),
                user_specified_image: image.clone(),
                ..ImageSpec::default()
            }),
            command,
            args,
            working_dir: given.working_dir.clone().unwrap_or_default(),
            envs: environment.pairs(),
            mounts,
            labels: labels(given, self.manifest, facts),
            stdin: given.stdin == Some(true),
            stdin_once: given.stdin_once == Some(true),
            tty: given.tty == Some(true),
            stop_signal: stop_signal(path, lifecycle.stop_signal.as_deref(), problems),
            linux: Some(LinuxContainerConfig {
                resources: Some(own.limits(resources::oom_score_adj(class, &own, facts))),
                security_context: Some(security),
            }),
            ..ContainerConfig::default()
        };
        let mut probe = |name: &str, given_probe| {
            probes::probe(given, &format!("{path}.{name}"), given_probe, problems)
        };
        let startup = probe("startupProbe", given.startup_probe.as_ref());
        let liveness = probe("livenessProbe", given.liveness_probe.as_ref());
        let readiness = probe("readinessProbe", given.readiness_probe.as_ref());
        let mut handler = |name: &str, of| {
            probes::handler(given, &format!("{path}.lifecycle.{name}"), of, problems)
        };
        Container {
            post_start: handler("postStart", lifecycle.post_start.as_ref()),
            pre_stop: handler("preStop", lifecycle.pre_stop.as_ref()),
            name: given.name.clone(),
            pull: volumes::pull(given.image_pull_policy.as_deref(), &image),
            image,
            config,
            restart: match spec.restart_policy.as_deref() {
                Some("OnFailure") => Restart::OnFailure,
                Some("Never") => Restart::Never,
                _ => Restart::Always,
            },
            is_sidecar: given.restart_policy.as_deref() == Some("Always"),
            non_root: security::is_non_root(spec, given),
            sub_paths,
            startup,
            liveness,
            readiness,
        }
    }
}

const NO_NAME: &str = "must be a name: lower-case letters, digits and -, at most 63 of them";

fn is_name(name: &str, has_dots: bool) -> bool {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.len() <= LONGEST_NAME
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.is_empty()
        && name.chars().all(|c| is_part(c) || (has_dots && c == '.'))
}

/// By which tools find containers.
fn labels(
    given: &Given,
    manifest: &Manifest,
    facts: &Facts,
) -> std::collections::HashMap<String, String> {
    let pod = &manifest.pod;
    [
        ("io.kubernetes.container.name".to_owned(), given.name.clone()),
        (LABEL_NAME.to_owned(), pod.metadata.name.clone().unwrap_or_default()),
        (LABEL_NAMESPACE.to_owned(), namespace(pod)),
        (LABEL_UID.to_owned(), facts.uid.clone()),
    ]
    .into()
}

fn stop_signal(path: &str, name: Option<&str>, problems: &mut Vec<Problem>) -> i32 {
    let Some(name) = name else { return Signal::RuntimeDefault.into() };
    let known = format!("SIGNAL_{}", name.replace('+', "PLUS").replace('-', "MINUS"));
    match Signal::from_str_name(&known) {
        Some(signal) => signal.into(),
        None => {
            let path = format!("{path}.lifecycle.stopSignal");
            problems.push(Problem::new(path, format!("is no signal: {name}")));
            Signal::RuntimeDefault.into()
        }
    }
}

/// The file that gives names to addresses, where a pod has names of its own; what it mounts
/// there itself counts more.
fn host_aliases(spec: &PodSpec, facts: &Facts, given: &Given) -> Option<Mount> {
    let is_own = given.volume_mounts.iter().flatten().any(|mount| mount.mount_path == HOSTS);
    (!is_own && spec.host_aliases.iter().flatten().next().is_some()).then(|| Mount {
        container_path: HOSTS.to_owned(),
        host_path: facts.directory.join("hosts").display().to_string(),
        ..Mount::default()
    })
}

const HOSTS: &str = "/etc/hosts";

/// What is in that file; none where the runtime's own suffices.
pub fn hosts(manifest: &Manifest, facts: &Facts) -> Option<String> {
    let spec = manifest.pod.spec.as_ref()?;
    let aliases: Vec<_> = spec.host_aliases.iter().flatten().collect();
    if aliases.is_empty() {
        return None;
    }
    let mut text = match spec.host_network {
        Some(true) => std::fs::read_to_string(HOSTS).unwrap_or_default(),
        _ => "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned(),
    };
    if spec.host_network != Some(true) {
        let name = manifest.pod.metadata.name.clone().unwrap_or_default();
        let name = spec.hostname.clone().unwrap_or(name);
        for address in &facts.pod_addresses {
            text.push_str(&format!("{address}\t{name}\n"));
        }
    }
    for alias in aliases {
        let names = alias.hostnames.clone().unwrap_or_default();
        text.push_str(&format!("{}\t{}\n", alias.ip, names.join("\t")));
    }
    Some(text)
}
