//! The fields of pods, config maps and secrets that are understood.

use super::shape::Shape::{
    self, Either, Fields, Flag, List, Map, Number, PassedOver, Quantity, Text, Word,
};

const TEXTS: Shape = List(&Text);
const NAMES: Shape = Map(&Text);
const QUANTITIES: Shape = Map(&Quantity);
const RESOURCES: Shape = Fields(&[("limits", &QUANTITIES), ("requests", &QUANTITIES)]);

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
    ("resources", &RESOURCES),
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
    ("resources", &RESOURCES),
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
