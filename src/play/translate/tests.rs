use super::*;
use crate::cri::v1::{NamespaceMode, Protocol, security_profile::ProfileType};

fn facts() -> Facts {
    Facts {
        directory: "/pods/u".into(),
        uid: "u".to_owned(),
        node_name: "node".to_owned(),
        host_addresses: vec!["192.0.2.1".to_owned()],
        pod_addresses: vec!["10.0.0.2".to_owned(), "fd00::2".to_owned()],
        memory: 1 << 30,
        processors: 4,
        first_user: 131_072,
    }
}

/// A pod with one container, which has these fields, and further fields of the pod's spec.
fn manifest(container: &str, spec: &str, more: &str) -> Manifest {
    let text = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: web, labels: {{tier: front}}}}, spec: {{\
         containers: [{{name: app, image: 'busybox:1', {container}}}], {spec}}}}}\n{more}"
    );
    Manifest::read(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn plan(container: &str, spec: &str, more: &str) -> Plan {
    Plan::of(&manifest(container, spec, more), &facts()).unwrap()
}

fn refused(container: &str, spec: &str) -> String {
    Plan::of(&manifest(container, spec, ""), &facts()).unwrap_err().to_string()
}

const OBJECTS: &str = "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, \
    data: {COLOUR: red, size: '3'}}\n---\n\
    {apiVersion: v1, kind: Secret, metadata: {name: keys}, data: {a: YQ==}, stringData: {b: bb}}\n";

#[test]
fn an_environment_from_everywhere() {
    let plan = plan(
        "command: [sh, -c, 'echo $(GREETING) $$(NAME)'], args: ['$(NOBODY)'],
         envFrom: [{prefix: C_, configMapRef: {name: settings}}, {secretRef: {name: keys}},
                   {configMapRef: {name: absent, optional: true}}],
         env: [{name: NAME, value: world}, {name: GREETING, value: 'hello $(NAME)'},
               {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}},
               {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}},
               {name: TIER, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['tier']\"}}},
               {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: COLOUR}}},
               {name: NONE, valueFrom: {secretKeyRef: {name: keys, key: z, optional: true}}},
               {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}},
               {name: MEM, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}],
         resources: {limits: {memory: 64Mi}}",
        "",
        OBJECTS,
    );
    let config = &plan.containers[0].config;
    assert_eq!(config.command, ["sh", "-c", "echo hello world $(NAME)"]);
    assert_eq!(config.args, ["$(NOBODY)"]);
    let pairs: Vec<String> = config
        .envs
        .iter()
        .map(|pair| format!("{}={}", pair.key, String::from_utf8_lossy(&pair.value)))
        .collect();
    assert_eq!(
        pairs,
        [
            "C_COLOUR=red",
            "C_size=3",
            "a=a",
            "b=bb",
            "NAME=world",
            "GREETING=hello world",
            "IP=10.0.0.2",
            "NODE=node",
            "TIER=front",
            "COLOUR=red",
            "CPU=4000",
            "MEM=64",
        ]
    );
}

#[test]
fn volumes_and_what_is_mounted() {
    let plan = plan(
        "env: [{name: WHO, value: me}], volumeMounts: [
            {name: scratch, mountPath: /scratch, subPathExpr: of-$(WHO)},
            {name: memory, mountPath: /memory}, {name: host, mountPath: /host, readOnly: true},
            {name: files, mountPath: /files}, {name: art, mountPath: /art, subPath: docs}]",
        "securityContext: {fsGroup: 2000}, volumes: [
            {name: scratch, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}},
            {name: host, hostPath: {path: /srv, type: Directory}},
            {name: files, projected: {defaultMode: 256, sources: [
                {configMap: {name: settings, items: [{key: COLOUR, path: deep/colour}]}},
                {secret: {name: keys}},
                {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}]}},
            {name: art, image: {reference: 'docs:2'}}]",
        OBJECTS,
    );
    let sources: Vec<&Source> = plan.volumes.iter().map(|volume| &volume.source).collect();
    let file = |path: &str, content: &str| File {
        path: path.to_owned(),
        content: content.as_bytes().to_vec(),
        mode: 0o400,
    };
    let files = vec![
        file("deep/colour", "red"),
        file("a", "a"),
        file("b", "bb"),
        file("labels", "tier=\"front\"\n"),
    ];
    assert_eq!(
        sources,
        [
            &Source::Directory,
            &Source::Memory(Some(1 << 20)),
            &Source::Host { path: "/srv".into(), kind: "Directory".to_owned() },
            &Source::Files(files),
            &Source::Image { reference: "docs:2".to_owned(), pull: Pull::IfNotPresent },
        ]
    );
    assert!(plan.volumes.iter().all(|volume| volume.group == Some(2000)));
    let mounts = &plan.containers[0].config.mounts;
    let paths: Vec<_> = mounts.iter().map(|mount| mount.host_path.as_str()).collect();
    let below = "/pods/u/volumes";
    assert_eq!(
        paths,
        [
            &format!("{below}/scratch/of-me"),
            &format!("{below}/memory"),
            "/srv",
            &format!("{below}/files"),
            ""
        ]
    );
    assert_eq!(plan.containers[0].sub_paths[0].path, std::path::Path::new("of-me"));
    assert!(mounts[2].readonly && mounts[3].readonly && !mounts[0].readonly);
    assert_eq!(mounts[4].image.as_ref().unwrap().image, "docs:2");
    assert_eq!(mounts[4].image_sub_path, "docs");
}

#[test]
fn namespaces_and_rights() {
    let one = plan("", "", "");
    let security =
        |plan: &Plan| plan.containers[0].config.linux.clone().unwrap().security_context.unwrap();
    let options = security(&one).namespace_options.unwrap();
    assert_eq!(options.pid, i32::from(NamespaceMode::Container));
    assert_eq!(options.network, i32::from(NamespaceMode::Pod));
    assert!(options.userns_options.is_none());
    assert!(!security(&one).no_new_privs && !security(&one).masked_paths.is_empty());

    let other = plan(
        "securityContext: {runAsUser: 7, allowPrivilegeEscalation: false, procMount: Unmasked,
            capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}, volumeMounts: [{name: v, mountPath: /v}]",
        "hostUsers: false, shareProcessNamespace: true, hostNetwork: true, volumes: [{name: v, emptyDir: {}}],
         securityContext: {runAsUser: 5, runAsGroup: 6, runAsNonRoot: true, fsGroup: 9,
            supplementalGroups: [8], seccompProfile: {type: Localhost, localhostProfile: p.json}}",
        "",
    );
    let context = security(&other);
    assert_eq!(context.run_as_user.unwrap().value, 7);
    assert_eq!(context.run_as_group.unwrap().value, 6);
    assert_eq!(context.supplemental_groups, [9, 8]);
    assert!(context.no_new_privs && context.masked_paths.is_empty());
    let filter = context.seccomp.unwrap();
    assert_eq!(filter.profile_type, i32::from(ProfileType::Localhost));
    assert_eq!(filter.localhost_ref, "/var/lib/kubelet/seccomp/p.json");
    let options = context.namespace_options.unwrap();
    assert_eq!(options.pid, i32::from(NamespaceMode::Pod));
    assert_eq!(options.network, i32::from(NamespaceMode::Node));
    assert_eq!(options.userns_options.unwrap().uids[0].host_id, 131_072);
    let mount = &other.containers[0].config.mounts[0];
    assert_eq!(mount.uid_mappings[0].length, security::USERS);
    assert!(other.containers[0].non_root);
}

#[test]
fn init_containers_sidecars_probes_and_ports() {
    let plan = plan(
        "ports: [{name: http, containerPort: 80, hostPort: 8080}, {containerPort: 53, protocol: UDP, hostPort: 5353}],
         livenessProbe: {httpGet: {path: health, port: http, httpHeaders: [{name: H, value: v}]}, periodSeconds: 3},
         readinessProbe: {tcpSocket: {port: 80}, successThreshold: 2},
         lifecycle: {preStop: {sleep: {seconds: 4}}, postStart: {exec: {command: [true_]}}, stopSignal: SIGUSR1}",
        "restartPolicy: Never, terminationGracePeriodSeconds: 5, initContainers: [
            {name: first, image: a}, {name: side, image: 'a:2', restartPolicy: Always}]",
        "",
    );
    assert_eq!(plan.grace, Duration::from_secs(5));
    assert_eq!((plan.init[0].restart, plan.init[0].is_sidecar), (Restart::Never, false));
    assert_eq!((plan.init[1].restart, plan.init[1].is_sidecar), (Restart::Always, true));
    assert_eq!((plan.init[0].pull, plan.init[1].pull), (Pull::Usually, Pull::IfNotPresent));
    let app = &plan.containers[0];
    let liveness = app.liveness.clone().unwrap();
    assert_eq!((liveness.period, liveness.failures), (Duration::from_secs(3), 3));
    let Action::Http(http) = liveness.action else { panic!("{liveness:?}") };
    assert_eq!((http.port, http.path.as_str()), (80, "/health"));
    assert_eq!(app.readiness.clone().unwrap().successes, 2);
    assert_eq!(app.pre_stop, Some(Action::Sleep(Duration::from_secs(4))));
    assert_eq!(app.post_start, Some(Action::Exec(vec!["true_".to_owned()])));
    assert_eq!(app.config.stop_signal, i32::from(Signal::Sigusr1));
    let ports = &plan.sandbox.port_mappings;
    assert_eq!((ports[0].host_port, ports[0].container_port), (8080, 80));
    assert_eq!(ports[1].protocol, i32::from(Protocol::Udp));
}

#[test]
fn names_of_addresses() {
    let manifest = manifest("", "hostAliases: [{ip: 192.0.2.7, hostnames: [a, b]}]", "");
    let text = hosts(&manifest, &facts()).unwrap();
    assert!(text.contains("10.0.0.2\tweb\n") && text.ends_with("192.0.2.7\ta\tb\n"), "{text}");
    let plan = Plan::of(&manifest, &facts()).unwrap();
    assert_eq!(plan.containers[0].config.mounts[0].container_path, "/etc/hosts");
    let dns = plan_dns(
        "dnsPolicy: None, dnsConfig: {nameservers: [192.0.2.53], options: [{name: ndots, value: '2'}]}",
    );
    assert_eq!(
        (dns.servers, dns.options),
        (vec!["192.0.2.53".to_owned()], vec!["ndots:2".to_owned()])
    );
}

fn plan_dns(spec: &str) -> crate::cri::v1::DnsConfig {
    plan("", spec, "").sandbox.dns_config.unwrap()
}

#[test]
fn what_makes_no_sense_is_refused_with_its_path() {
    for (container, spec, words) in [
        (
            "volumeMounts: [{name: x, mountPath: /x}]",
            "",
            "spec.containers[0].volumeMounts[0].name names no volume",
        ),
        ("", "volumes: [{name: v}]", "spec.volumes[0] does not say what it is"),
        (
            "",
            "volumes: [{name: v, configMap: {name: m}}]",
            "spec.volumes[0].configMap names ConfigMap \"m\", which is not in this file",
        ),
        (
            "volumeMounts: [{name: v, mountPath: /v, subPath: ../x}]",
            "volumes: [{name: v, emptyDir: {}}]",
            "volumeMounts[0].subPath must be a path below",
        ),
        ("livenessProbe: {periodSeconds: 1}", "", "livenessProbe must have exactly one of exec"),
        (
            "livenessProbe: {tcpSocket: {port: http}}",
            "",
            "livenessProbe.tcpSocket.port is neither a port",
        ),
        ("resources: {limits: {gpu: 1}}", "", "resources.limits[\"gpu\"] is not known here"),
        (
            "resources: {limits: {cpu: 1}, requests: {cpu: 2}}",
            "",
            "requests[\"cpu\"] is more than the limit",
        ),
        (
            "env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.x}}}]",
            "",
            "valueFrom.fieldRef.fieldPath \"spec.x\" is not known",
        ),
        ("restartPolicy: Always", "", "containers[0].restartPolicy is for init containers"),
        (
            "securityContext: {privileged: true, allowPrivilegeEscalation: false}",
            "",
            "allowPrivilegeEscalation cannot be false",
        ),
        (
            "securityContext: {procMount: Unmasked}",
            "",
            "procMount Unmasked needs `hostUsers: false`",
        ),
        (
            "ports: [{containerPort: 1, hostPort: 2}]",
            "hostNetwork: true",
            "hostPort must be the containerPort",
        ),
        ("ports: [{containerPort: 0}]", "", "containerPort must be a port"),
        ("", "dnsPolicy: None", "spec.dnsPolicy None needs nameservers"),
        (
            "",
            "initContainers: [{name: app, image: a}]",
            "spec.containers[0].name is another container's",
        ),
        (
            "",
            "initContainers: [{name: Up, image: a}]",
            "spec.initContainers[0].name must be a name",
        ),
    ] {
        let error = refused(container, spec);
        assert!(error.contains(words), "{words}\nis not in\n{error}");
    }
}

#[test]
fn what_has_no_meaning_here_is_noted() {
    let notes = plan("", "tolerations: [{key: x}], dnsPolicy: ClusterFirst", "").notes.join("\n");
    assert!(notes.contains("spec.tolerations means nothing here"), "{notes}");
    assert!(notes.contains("there is no cluster"), "{notes}");
}
