//! What a manifest may say: each field that is understood, by its name and kind. All else is
//! refused with its path, before anything is made.
//!
//! The types of `k8s-openapi` know every field that Kubernetes has, and pass over all others;
//! what is in these tables is what happens here.

use serde_json::Value;

use super::{Problem, quantity_is_sound};

/// What a field may be.
pub(super) enum Shape {
    Text,
    /// A whole number.
    Number,
    Flag,
    /// A whole number, or a name.
    Either,
    /// `500m`, `64Mi`.
    Quantity,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Names of the author's own choice.
    Map(&'static Shape),
    List(&'static Shape),
    Fields(&'static [(&'static str, &'static Shape)]),
    /// Nothing that changes what happens on one node: said once, as something passed over.
    PassedOver,
}

use Shape::{Either, Fields, Flag, List, Map, Number, PassedOver, Quantity, Text, Word};

const TEXTS: Shape = List(&Text);
const NAMES: Shape = Map(&Text);
const QUANTITIES: Shape = Map(&Quantity);

const METADATA: Shape = Fields(&[
    ("name", &Text),
    ("namespace", &Text),
    ("uid", &Text),
    ("labels", &NAMES),
    ("annotations", &NAMES),
    ("creationTimestamp", &PassedOver),
    ("generateName", &Text),
    ("resourceVersion", &PassedOver),
    ("managedFields", &PassedOver),
    ("ownerReferences", &PassedOver),
]);

pub(super) const CONFIG_MAP: Shape = Fields(&[
    ("apiVersion", &Text),
    ("kind", &Text),
    ("metadata", &METADATA),
    ("data", &NAMES),
    ("binaryData", &NAMES),
    ("immutable", &PassedOver),
]);

pub(super) const SECRET: Shape = Fields(&[
    ("apiVersion", &Text),
    ("kind", &Text),
    ("metadata", &METADATA),
    ("data", &NAMES),
    ("stringData", &NAMES),
    ("type", &PassedOver),
    ("immutable", &PassedOver),
]);

pub(super) const POD: Shape = Fields(&[
    ("apiVersion", &Text),
    ("kind", &Text),
    ("metadata", &METADATA),
    ("spec", &SPEC),
    ("status", &PassedOver),
]);

const SPEC: Shape = Fields(&[
    ("containers", &List(&CONTAINER)),
    ("initContainers", &List(&CONTAINER)),
    ("volumes", &List(&VOLUME)),
    ("restartPolicy", &Word(&["Always", "OnFailure", "Never"])),
    ("terminationGracePeriodSeconds", &Number),
    ("activeDeadlineSeconds", &Number),
    ("hostNetwork", &Flag),
    ("hostPID", &Flag),
    ("hostIPC", &Flag),
    ("hostUsers", &Flag),
    ("shareProcessNamespace", &Flag),
    ("hostname", &Text),
    ("subdomain", &Text),
    ("setHostnameAsFQDN", &Flag),
    ("hostAliases", &List(&Fields(&[("ip", &Text), ("hostnames", &TEXTS)]))),
    ("dnsPolicy", &Word(&["Default", "ClusterFirst", "ClusterFirstWithHostNet", "None"])),
    (
        "dnsConfig",
        &Fields(&[
            ("nameservers", &TEXTS),
            ("searches", &TEXTS),
            ("options", &List(&Fields(&[("name", &Text), ("value", &Text)]))),
        ]),
    ),
    ("securityContext", &POD_SECURITY),
    ("runtimeClassName", &Text),
    ("os", &Fields(&[("name", &Word(&["linux"]))])),
    ("nodeName", &Text),
    ("serviceAccountName", &Text),
    ("serviceAccount", &Text),
    ("automountServiceAccountToken", &PassedOver),
    ("enableServiceLinks", &PassedOver),
    ("nodeSelector", &PassedOver),
    ("affinity", &PassedOver),
    ("tolerations", &PassedOver),
    ("topologySpreadConstraints", &PassedOver),
    ("schedulerName", &PassedOver),
    ("priority", &PassedOver),
    ("priorityClassName", &PassedOver),
    ("preemptionPolicy", &PassedOver),
    ("imagePullSecrets", &List(&Fields(&[("name", &Text)]))),
]);

const CONTAINER: Shape = Fields(&[
    ("name", &Text),
    ("image", &Text),
    ("imagePullPolicy", &PULL_POLICY),
    ("command", &TEXTS),
    ("args", &TEXTS),
    ("workingDir", &Text),
    ("env", &List(&Fields(&[("name", &Text), ("value", &Text), ("valueFrom", &VALUE_FROM)]))),
    (
        "envFrom",
        &List(&Fields(&[
            ("prefix", &Text),
            ("configMapRef", &Fields(&[("name", &Text), ("optional", &Flag)])),
            ("secretRef", &Fields(&[("name", &Text), ("optional", &Flag)])),
        ])),
    ),
    (
        "ports",
        &List(&Fields(&[
            ("name", &Text),
            ("containerPort", &Number),
            ("hostPort", &Number),
            ("hostIP", &Text),
            ("protocol", &Word(&["TCP", "UDP", "SCTP"])),
        ])),
    ),
    ("resources", &Fields(&[("limits", &QUANTITIES), ("requests", &QUANTITIES)])),
    ("resizePolicy", &PassedOver),
    ("restartPolicy", &Word(&["Always"])),
    ("securityContext", &SECURITY),
    (
        "volumeMounts",
        &List(&Fields(&[
            ("name", &Text),
            ("mountPath", &Text),
            ("readOnly", &Flag),
            ("subPath", &Text),
            ("subPathExpr", &Text),
            ("mountPropagation", &Word(&["None", "HostToContainer", "Bidirectional"])),
            ("recursiveReadOnly", &Word(&["Disabled", "IfPossible", "Enabled"])),
        ])),
    ),
    ("startupProbe", &PROBE),
    ("livenessProbe", &PROBE),
    ("readinessProbe", &PROBE),
    (
        "lifecycle",
        &Fields(&[("postStart", &HANDLER), ("preStop", &HANDLER), ("stopSignal", &Text)]),
    ),
    ("stdin", &Flag),
    ("stdinOnce", &Flag),
    ("tty", &Flag),
    ("terminationMessagePath", &PassedOver),
    ("terminationMessagePolicy", &PassedOver),
]);

const PULL_POLICY: Shape = Word(&["Always", "IfNotPresent", "Never"]);

const KEY: Shape = Fields(&[("name", &Text), ("key", &Text), ("optional", &Flag)]);
const FIELD: Shape = Fields(&[("apiVersion", &Text), ("fieldPath", &Text)]);
const RESOURCE_FIELD: Shape =
    Fields(&[("containerName", &Text), ("resource", &Text), ("divisor", &Quantity)]);

const VALUE_FROM: Shape = Fields(&[
    ("fieldRef", &FIELD),
    ("resourceFieldRef", &RESOURCE_FIELD),
    ("configMapKeyRef", &KEY),
    ("secretKeyRef", &KEY),
]);

const EXEC: Shape = Fields(&[("command", &TEXTS)]);
const HTTP_GET: Shape = Fields(&[
    ("path", &Text),
    ("port", &Either),
    ("host", &Text),
    ("scheme", &Word(&["HTTP", "HTTPS"])),
    ("httpHeaders", &List(&Fields(&[("name", &Text), ("value", &Text)]))),
]);
const TCP_SOCKET: Shape = Fields(&[("port", &Either), ("host", &Text)]);

const HANDLER: Shape =
    Fields(&[("exec", &EXEC), ("httpGet", &HTTP_GET), ("sleep", &Fields(&[("seconds", &Number)]))]);

const PROBE: Shape = Fields(&[
    ("exec", &EXEC),
    ("httpGet", &HTTP_GET),
    ("tcpSocket", &TCP_SOCKET),
    ("grpc", &Fields(&[("port", &Number), ("service", &Text)])),
    ("initialDelaySeconds", &Number),
    ("timeoutSeconds", &Number),
    ("periodSeconds", &Number),
    ("successThreshold", &Number),
    ("failureThreshold", &Number),
    ("terminationGracePeriodSeconds", &Number),
]);

const SECCOMP: Shape = Fields(&[("type", &PROFILE_TYPE), ("localhostProfile", &Text)]);
const PROFILE_TYPE: Shape = Word(&["RuntimeDefault", "Unconfined", "Localhost"]);
const SELINUX: Shape =
    Fields(&[("user", &Text), ("role", &Text), ("type", &Text), ("level", &Text)]);

const POD_SECURITY: Shape = Fields(&[
    ("runAsUser", &Number),
    ("runAsGroup", &Number),
    ("runAsNonRoot", &Flag),
    ("fsGroup", &Number),
    ("fsGroupChangePolicy", &PassedOver),
    ("supplementalGroups", &List(&Number)),
    ("supplementalGroupsPolicy", &Word(&["Merge", "Strict"])),
    ("seccompProfile", &SECCOMP),
    ("appArmorProfile", &SECCOMP),
    ("seLinuxOptions", &SELINUX),
    ("sysctls", &List(&Fields(&[("name", &Text), ("value", &Text)]))),
]);

const SECURITY: Shape = Fields(&[
    ("runAsUser", &Number),
    ("runAsGroup", &Number),
    ("runAsNonRoot", &Flag),
    ("privileged", &Flag),
    ("allowPrivilegeEscalation", &Flag),
    ("readOnlyRootFilesystem", &Flag),
    ("procMount", &Word(&["Default", "Unmasked"])),
    ("capabilities", &Fields(&[("add", &TEXTS), ("drop", &TEXTS)])),
    ("seccompProfile", &SECCOMP),
    ("appArmorProfile", &SECCOMP),
    ("seLinuxOptions", &SELINUX),
]);

const ITEMS: Shape = List(&Fields(&[("key", &Text), ("path", &Text), ("mode", &Number)]));
const DOWNWARD_ITEMS: Shape = List(&Fields(&[
    ("path", &Text),
    ("fieldRef", &FIELD),
    ("resourceFieldRef", &RESOURCE_FIELD),
    ("mode", &Number),
]));

const VOLUME: Shape = Fields(&[
    ("name", &Text),
    ("emptyDir", &Fields(&[("medium", &Word(&["", "Memory"])), ("sizeLimit", &Quantity)])),
    ("hostPath", &Fields(&[("path", &Text), ("type", &HOST_PATH_TYPE)])),
    (
        "configMap",
        &Fields(&[
            ("name", &Text),
            ("items", &ITEMS),
            ("defaultMode", &Number),
            ("optional", &Flag),
        ]),
    ),
    (
        "secret",
        &Fields(&[
            ("secretName", &Text),
            ("items", &ITEMS),
            ("defaultMode", &Number),
            ("optional", &Flag),
        ]),
    ),
    ("downwardAPI", &Fields(&[("items", &DOWNWARD_ITEMS), ("defaultMode", &Number)])),
    (
        "projected",
        &Fields(&[
            ("defaultMode", &Number),
            (
                "sources",
                &List(&Fields(&[
                    ("configMap", &PROJECTED),
                    ("secret", &PROJECTED),
                    ("downwardAPI", &Fields(&[("items", &DOWNWARD_ITEMS)])),
                ])),
            ),
        ]),
    ),
    ("image", &Fields(&[("reference", &Text), ("pullPolicy", &PULL_POLICY)])),
]);

const PROJECTED: Shape = Fields(&[("name", &Text), ("items", &ITEMS), ("optional", &Flag)]);

const HOST_PATH_TYPE: Shape = Word(&[
    "",
    "DirectoryOrCreate",
    "Directory",
    "FileOrCreate",
    "File",
    "Socket",
    "CharDevice",
    "BlockDevice",
]);

impl Shape {
    /// Adds what is wrong with a value, and the paths of what is passed over.
    pub(super) fn check(
        &self,
        path: &str,
        value: &Value,
        problems: &mut Vec<Problem>,
        passed_over: &mut Vec<String>,
    ) {
        // A field without a value is not there.
        if value.is_null() {
            return;
        }
        match (self, value) {
            (PassedOver, _) => passed_over.push(path.to_owned()),
            (Fields(fields), Value::Object(given)) => {
                for (name, value) in given {
                    let path =
                        if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    match fields.iter().find(|(known, _)| known == name) {
                        Some((_, shape)) => shape.check(&path, value, problems, passed_over),
                        None => problems.push(Problem { path, reason: unknown(fields, name) }),
                    }
                }
            }
            (Map(shape), Value::Object(given)) => {
                for (name, value) in given {
                    let path = format!("{path}[{name:?}]");
                    shape.check(&path, value, problems, passed_over);
                }
            }
            (List(shape), Value::Array(items)) => {
                for (number, value) in items.iter().enumerate() {
                    shape.check(&format!("{path}[{number}]"), value, problems, passed_over);
                }
            }
            _ if self.has(value) => {}
            _ => problems.push(Problem { path: path.to_owned(), reason: self.wanted(value) }),
        }
    }

    fn has(&self, value: &Value) -> bool {
        match self {
            Text => value.is_string(),
            Number => value.is_i64(),
            Flag => value.is_boolean(),
            Either => value.is_i64() || value.is_string(),
            Quantity => match value {
                Value::String(text) => quantity_is_sound(text),
                value => value.is_number(),
            },
            Word(words) => value.as_str().is_some_and(|text| words.contains(&text)),
            Map(_) | List(_) | Fields(_) => false,
            PassedOver => true,
        }
    }

    fn wanted(&self, value: &Value) -> String {
        let wanted = match self {
            Text => "text".to_owned(),
            Number => "a whole number".to_owned(),
            Flag => "true or false".to_owned(),
            Either => "a whole number or a name".to_owned(),
            Quantity => "a quantity (500m, 64Mi)".to_owned(),
            Word(words) => {
                let words: Vec<_> = words.iter().filter(|word| !word.is_empty()).copied().collect();
                format!("one of {}", words.join(", "))
            }
            List(_) => "a list".to_owned(),
            Map(_) | Fields(_) => "an object with names and values".to_owned(),
            PassedOver => String::new(),
        };
        let hint = match (self, value) {
            (Text, Value::Number(_) | Value::Bool(_)) => "; put it into quotes",
            _ => "",
        };
        format!("must be {wanted}, and is {value}{hint}")
    }
}

fn unknown(fields: &[(&str, &Shape)], name: &str) -> String {
    let near = fields.iter().map(|(known, _)| (strsim::damerau_levenshtein(known, name), known));
    match near.min() {
        Some((distance, known)) if distance <= name.len().div_ceil(4) => {
            format!("is not known here; did you mean {known}?")
        }
        _ => "is not known here, or needs a cluster".to_owned(),
    }
}
