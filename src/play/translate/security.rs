//! Security contexts, of the pod and of the container, in the words of the CRI.

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, PodSecurityContext, PodSpec, SELinuxOptions, SeccompProfile,
};

use super::Problem;
use crate::cri::v1::{
    Capability, IdMapping, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext,
    NamespaceMode, NamespaceOption, SeLinuxOption, SecurityProfile, SupplementalGroupsPolicy,
    UserNamespace, security_profile::ProfileType,
};

/// What a container cannot see unless it wants another `/proc`.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
/// What it cannot write to.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Where the kubelet has the filters that pods name.
const PROFILES: &str = "/var/lib/kubelet/seccomp";

/// How many ids a pod with a user namespace has, as the kubelet gives them.
pub(super) const USERS: u32 = 65_536;

/// Whose namespaces the pod has.
pub(super) fn namespaces(spec: &PodSpec, first_user: u32) -> NamespaceOption {
    let of_node = |flag: Option<bool>, other: NamespaceMode| match flag {
        Some(true) => NamespaceMode::Node.into(),
        _ => other.into(),
    };
    let processes = match spec.share_process_namespace {
        Some(true) => NamespaceMode::Pod,
        _ => NamespaceMode::Container,
    };
    let mappings = id_mappings(spec, first_user);
    let users = (!mappings.is_empty()).then(|| UserNamespace {
        mode: NamespaceMode::Pod.into(),
        uids: mappings.clone(),
        gids: mappings,
    });
    NamespaceOption {
        network: of_node(spec.host_network, NamespaceMode::Pod),
        pid: of_node(spec.host_pid, processes),
        ipc: of_node(spec.host_ipc, NamespaceMode::Pod),
        target_id: String::new(),
        userns_options: users,
    }
}

/// The ids of a pod with a user namespace; none of one with the host's.
pub(super) fn id_mappings(spec: &PodSpec, first_user: u32) -> Vec<IdMapping> {
    let one = IdMapping { host_id: first_user, container_id: 0, length: USERS };
    (spec.host_users == Some(false)).then_some(one).into_iter().collect()
}

/// That of the sandbox.
pub(super) fn of_sandbox(
    spec: &PodSpec,
    first_user: u32,
    problems: &mut Vec<Problem>,
) -> LinuxSandboxSecurityContext {
    let context = spec.security_context.clone().unwrap_or_default();
    let path = "spec.securityContext";
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let is_privileged = |one: &Container| {
        one.security_context.as_ref().is_some_and(|context| context.privileged == Some(true))
    };
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(spec, first_user)),
        selinux_options: context.se_linux_options.clone().map(selinux),
        privileged: all.into_iter().any(is_privileged),
        seccomp: seccomp(path, context.seccomp_profile.as_ref(), problems),
        apparmor: apparmor(path, context.app_armor_profile.as_ref(), problems),
        supplemental_groups: groups(&context),
        supplemental_groups_policy: policy(&context),
        ..LinuxSandboxSecurityContext::default()
    }
}

/// That of a container; what it does not say, the pod says.
pub(super) fn of_container(
    spec: &PodSpec,
    container: &Container,
    path: &str,
    first_user: u32,
    problems: &mut Vec<Problem>,
) -> LinuxContainerSecurityContext {
    let of_pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let path = format!("{path}.securityContext");
    let capabilities = own.capabilities.clone().unwrap_or_default();
    let (add, drop) = (capabilities.add.unwrap_or_default(), capabilities.drop.unwrap_or_default());
    let is_privileged = own.privileged == Some(true);
    let gains_rights = own.allow_privilege_escalation;
    let is_admin = add.iter().any(|name| matches!(name.as_str(), "SYS_ADMIN" | "CAP_SYS_ADMIN"));
    if gains_rights == Some(false) && (is_privileged || is_admin) {
        problems.push(Problem::new(
            format!("{path}.allowPrivilegeEscalation"),
            "cannot be false for a container that is privileged or has SYS_ADMIN",
        ));
    }
    let is_unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    if is_unmasked && spec.host_users != Some(false) {
        let reason = "Unmasked needs `hostUsers: false` of the pod";
        problems.push(Problem::new(format!("{path}.procMount"), reason));
    }
    let paths = |paths: &[&str]| match is_unmasked {
        true => Vec::new(),
        false => paths.iter().map(|path| (*path).to_owned()).collect(),
    };
    let id = |id: Option<i64>| id.map(|value| Int64Value { value });
    let seccomp_of = own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref());
    let apparmor_of = own.app_armor_profile.as_ref().or(of_pod.app_armor_profile.as_ref());
    LinuxContainerSecurityContext {
        capabilities: Some(Capability {
            add_capabilities: add,
            drop_capabilities: drop,
            add_ambient_capabilities: Vec::new(),
        }),
        privileged: is_privileged,
        namespace_options: Some(namespaces(spec, first_user)),
        selinux_options: own.se_linux_options.or(of_pod.se_linux_options.clone()).map(selinux),
        run_as_user: id(own.run_as_user.or(of_pod.run_as_user)),
        run_as_group: id(own.run_as_group.or(of_pod.run_as_group)),
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: groups(&of_pod),
        supplemental_groups_policy: policy(&of_pod),
        no_new_privs: gains_rights == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: seccomp(&path, seccomp_of, problems),
        apparmor: apparmor(&path, apparmor_of, problems),
        ..LinuxContainerSecurityContext::default()
    }
}

/// Whether it must not run as root.
pub(super) fn is_non_root(spec: &PodSpec, container: &Container) -> bool {
    let own = container.security_context.as_ref().and_then(|context| context.run_as_non_root);
    let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_non_root);
    own.or(of_pod) == Some(true)
}

/// The group of the pod's volumes is one of its processes' as well.
fn groups(context: &PodSecurityContext) -> Vec<i64> {
    let own = context.supplemental_groups.iter().flatten().copied();
    context.fs_group.into_iter().chain(own).collect()
}

fn policy(context: &PodSecurityContext) -> i32 {
    match context.supplemental_groups_policy.as_deref() {
        Some("Strict") => SupplementalGroupsPolicy::Strict.into(),
        _ => SupplementalGroupsPolicy::Merge.into(),
    }
}

fn selinux(options: SELinuxOptions) -> SeLinuxOption {
    SeLinuxOption {
        user: options.user.unwrap_or_default(),
        role: options.role.unwrap_or_default(),
        r#type: options.type_.unwrap_or_default(),
        level: options.level.unwrap_or_default(),
    }
}

fn seccomp(
    path: &str,
    profile: Option<&SeccompProfile>,
    problems: &mut Vec<Problem>,
) -> Option<SecurityProfile> {
    let profile = profile?;
    let path = format!("{path}.seccompProfile");
    let file = profile.localhost_profile.as_ref();
    let file = file.map(|file| std::path::Path::new(PROFILES).join(file).display().to_string());
    Some(security_profile(&path, &profile.type_, file.as_ref(), problems))
}

fn apparmor(
    path: &str,
    profile: Option<&AppArmorProfile>,
    problems: &mut Vec<Problem>,
) -> Option<SecurityProfile> {
    let profile = profile?;
    let path = format!("{path}.appArmorProfile");
    Some(security_profile(&path, &profile.type_, profile.localhost_profile.as_ref(), problems))
}

fn security_profile(
    path: &str,
    kind: &str,
    localhost: Option<&String>,
    problems: &mut Vec<Problem>,
) -> SecurityProfile {
    let profile_type = match kind {
        "RuntimeDefault" => ProfileType::RuntimeDefault,
        "Localhost" => ProfileType::Localhost,
        _ => ProfileType::Unconfined,
    };
    if (profile_type == ProfileType::Localhost) != localhost.is_some() {
        let reason = "has a localhostProfile exactly where its type is Localhost";
        problems.push(Problem::new(path, reason));
    }
    SecurityProfile {
        profile_type: profile_type.into(),
        localhost_ref: localhost.cloned().unwrap_or_default(),
    }
}
