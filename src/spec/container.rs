//! The OCI runtime spec of one container.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use oci_spec::runtime::{
    Linux, LinuxCapabilities, LinuxDeviceCgroup, LinuxDeviceType, LinuxIdMapping,
    LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType, Process, Root, Spec,
    User as OciUser,
};

use super::{
    capabilities,
    config::{ContainerConfig, IdRange, NamespaceMode, Resources},
    error::Error,
    mounts::{self, Wishes},
    resources,
    selinux::Labels,
};

pub use super::given::{DeviceNode, ImageDefaults, Node, Sandbox, User};

/// Everything that decides about a spec.
#[derive(Debug)]
pub struct Request<'a> {
    /// What the user asks for.
    pub config: &'a ContainerConfig,
    /// What the image says.
    pub image: &'a ImageDefaults,
    /// The layers of the images among the mounts, in the order of the mounts, each with the
    /// top layer first.
    pub volumes: &'a [Vec<PathBuf>],
    /// What the sandbox has.
    pub sandbox: &'a Sandbox,
    /// Who it runs as.
    pub user: &'a User,
    /// What the node can give.
    pub node: &'a Node,
    /// Devices, looked up on the host.
    pub devices: &'a [DeviceNode],
    /// AppArmor profile that is loaded; none for unconfined.
    pub apparmor: Option<String>,
    /// SELinux labels; none where there are none.
    pub selinux: Option<&'a Labels>,
}

/// Paths that hide what a container should not see unless it says otherwise.
const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that a container should not write unless it says otherwise.
const READONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Builds the spec. Its seccomp part is left to who has compiled filters at hand.
///
/// # Errors
/// What is wrong with the configuration, by field.
pub fn build(request: &Request<'_>) -> Result<Spec, Error> {
    let security = &request.config.security;
    let wishes =
        Wishes { privileged: security.privileged, readonly_rootfs: security.readonly_rootfs };
    let label = request.selinux.map(|labels| labels.mount.to_string());
    let mut root = Root::default();
    root.set_path(PathBuf::from("rootfs"));
    root.set_readonly(Some(security.readonly_rootfs));

    let mut spec = Spec::default();
    spec.set_version("1.2.1".to_owned());
    spec.set_root(Some(root));
    spec.set_hostname(None);
    spec.set_process(Some(process(request)?));
    let mut mounts =
        mounts::build(&request.config.mounts, request.volumes, request.sandbox, &wishes)?;
    if let Some(label) = &label {
        mounts::give_label(&mut mounts, label);
    }
    spec.set_mounts(Some(mounts));
    spec.set_linux(Some(linux(request)?));
    let annotations = request.sandbox.annotations.clone().into_iter().collect();
    spec.set_annotations(Some(annotations));
    Ok(spec)
}

fn process(request: &Request<'_>) -> Result<Process, Error> {
    let Request { config, image, user, node, .. } = request;
    let mut process = Process::default();
    process.set_terminal(Some(config.tty));
    process.set_args(Some(arguments(config, image)?));
    process.set_env(Some(environment(request)?));
    process.set_cwd(working_directory(config, image)?);
    process.set_user(oci_user(user));
    process.set_capabilities(Some(capability_sets(request)?));
    process.set_no_new_privileges(Some(config.security.no_new_privs));
    process.set_rlimits(None);
    process.set_oom_score_adj(Some(oom_score_adj(config.resources.as_ref(), node)));
    process.set_apparmor_profile(request.apparmor.clone());
    process.set_selinux_label(request.selinux.map(|labels| labels.process.to_string()));
    Ok(process)
}

/// The score that the container asks for, as far as the daemon may give it.
pub fn oom_score_adj(resources: Option<&Resources>, node: &Node) -> i32 {
    let asked = resources.map_or(0, |resources| resources.oom_score_adj as i32);
    asked.max(node.lowest_oom_score_adj)
}

fn oci_user(user: &User) -> OciUser {
    let mut oci = OciUser::default();
    oci.set_uid(user.uid);
    oci.set_gid(user.gid);
    oci.set_additional_gids(Some(user.groups.clone()));
    oci
}

/// `command` replaces the image's entry point together with its arguments, `args` replaces
/// the arguments alone.
fn arguments(config: &ContainerConfig, image: &ImageDefaults) -> Result<Vec<String>, Error> {
    let arguments = match (config.command.as_slice(), config.args.as_slice()) {
        ([], []) => [image.entrypoint.as_slice(), image.cmd.as_slice()].concat(),
        ([], args) => [image.entrypoint.as_slice(), args].concat(),
        (command, args) => [command, args].concat(),
    };
    if arguments.is_empty() {
        let reason = "neither the container nor its image names a command to run";
        return Err(Error::invalid("command", reason));
    }
    Ok(arguments)
}

fn environment(request: &Request<'_>) -> Result<Vec<String>, Error> {
    let Request { config, image, user, sandbox, .. } = request;
    let mut environment = Environment::default();
    environment.set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    if config.tty {
        environment.set("TERM", "xterm");
    }
    if !sandbox.hostname.is_empty() {
        environment.set("HOSTNAME", &sandbox.hostname);
    }
    if !user.home.is_empty() {
        environment.set("HOME", &user.home);
    }
    for entry in &image.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        environment.set(name, value);
    }
    for (name, value) in &config.envs {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            let reason =
                format!("{name:?} is not the name of an environment variable with a value");
            return Err(Error::invalid("envs", reason));
        }
        environment.set(name, value);
    }
    if let Some((name, _)) = config.raw_envs.iter().find(|(_, value)| value.contains(&0)) {
        let reason = format!("the value of {name:?} holds a zero byte; leave it out");
        return Err(Error::invalid("envs", reason));
    }
    Ok(environment.0.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

/// Values of the container's environment that are not UTF-8, as far as the spec has them:
/// nothing else has taken their place.
pub fn raw_environment(config: &ContainerConfig, spec: &Spec) -> BTreeMap<String, Vec<u8>> {
    if config.raw_envs.is_empty() {
        return BTreeMap::new();
    }
    let variables = spec.process().as_ref().and_then(|process| process.env().as_deref());
    let is_there = |(name, value): &(&String, &Vec<u8>)| {
        let text = format!("{name}={}", String::from_utf8_lossy(value));
        variables.unwrap_or_default().contains(&text)
    };
    let raw = config.raw_envs.iter().filter(is_there);
    raw.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Variables in the order of their first mention.
#[derive(Default)]
struct Environment(Vec<(String, String)>);

impl Environment {
    fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value.to_owned(),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }
}

fn working_directory(config: &ContainerConfig, image: &ImageDefaults) -> Result<PathBuf, Error> {
    let asked = [&config.working_dir, &image.working_dir];
    let path = asked.into_iter().find(|path| !path.is_empty()).map_or("/", String::as_str);
    if !Path::new(path).is_absolute() {
        return Err(Error::invalid("working_dir", format!("{path:?} must be an absolute path")));
    }
    Ok(PathBuf::from(path))
}

fn capability_sets(request: &Request<'_>) -> Result<LinuxCapabilities, Error> {
    let security = &request.config.security;
    let permitted = capabilities::permitted(security, &request.node.capabilities)?;
    let ambient = capabilities::ambient(security, &permitted)?;
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(permitted.clone()));
    sets.set_effective(Some(permitted.clone()));
    sets.set_permitted(Some(permitted));
    // Inheritable ones would come back in any program with file capabilities; only what is
    // ambient has to be inheritable as well (capabilities(7)).
    sets.set_inheritable(Some(ambient.clone()));
    sets.set_ambient(Some(ambient));
    Ok(sets)
}

fn linux(request: &Request<'_>) -> Result<Linux, Error> {
    let Request { config, sandbox, devices, .. } = request;
    let security = &config.security;
    let default = Resources::default();
    let mut limits = resources::build(config.resources.as_ref().unwrap_or(&default))?;
    limits.set_devices(Some(device_rules(security.privileged, devices)));

    let mut linux = Linux::default();
    linux.set_resources(Some(limits));
    linux.set_cgroups_path(Some(sandbox.cgroup.clone()));
    linux.set_namespaces(Some(namespaces(request)));
    linux.set_devices(Some(devices.iter().map(|device| device.node.clone()).collect()));
    linux.set_rootfs_propagation(None);
    linux.set_seccomp(None);
    linux.set_mount_label(request.selinux.map(|labels| labels.mount.to_string()));
    let (masked, read_only) = match (security.privileged, security.default_masks) {
        (true, _) => (Vec::new(), Vec::new()),
        (false, true) => (default_masked(request.node), READONLY_PATHS.map(str::to_owned).into()),
        (false, false) => (security.masked_paths.clone(), security.readonly_paths.clone()),
    };
    if let Some(users) = security.namespaces.users {
        linux.set_uid_mappings(Some(vec![mapping(users.uids)?]));
        linux.set_gid_mappings(Some(vec![mapping(users.gids)?]));
    }
    linux.set_masked_paths(Some(masked));
    linux.set_readonly_paths(Some(read_only));
    Ok(linux)
}

fn mapping(range: IdRange) -> Result<LinuxIdMapping, Error> {
    let mapping = LinuxIdMappingBuilder::default().host_id(range.host).size(range.count);
    let built = mapping.container_id(0_u32).build();
    built.map_err(|error| Error::invalid("userns_options", error.to_string()))
}

fn default_masked(node: &Node) -> Vec<String> {
    let of_processor = |n| format!("/sys/devices/system/cpu/cpu{n}/thermal_throttle");
    let fixed = MASKED_PATHS.iter().map(|path| (*path).to_owned());
    fixed.chain((0..node.processors).map(of_processor)).collect()
}

fn namespaces(request: &Request<'_>) -> Vec<LinuxNamespace> {
    let Request { config, sandbox, .. } = request;
    let modes = &config.security.namespaces;
    let of_pod =
        |name: &str| Some(PathBuf::from(format!("/proc/{}/ns/{name}", sandbox.monitor_pid)));
    let one = |kind, path: Option<PathBuf>| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind);
        namespace.set_path(path);
        namespace
    };
    let mut all = vec![one(LinuxNamespaceType::Mount, None), one(LinuxNamespaceType::Cgroup, None)];
    if modes.users.is_some() {
        all.push(one(LinuxNamespaceType::User, None));
    }
    match modes.pid {
        NamespaceMode::Container => all.push(one(LinuxNamespaceType::Pid, None)),
        NamespaceMode::Pod | NamespaceMode::Target => {
            all.push(one(LinuxNamespaceType::Pid, of_pod("pid_for_children")));
        }
        NamespaceMode::Node => {}
    }
    if modes.network != NamespaceMode::Node {
        let path = sandbox.netns.clone().or_else(|| of_pod("net"));
        all.push(one(LinuxNamespaceType::Network, path));
        all.push(one(LinuxNamespaceType::Uts, of_pod("uts")));
    }
    if modes.ipc != NamespaceMode::Node {
        all.push(one(LinuxNamespaceType::Ipc, of_pod("ipc")));
    }
    all
}

/// Nothing but the harmless devices, terminals, and what is asked for. Making nodes is
/// allowed: they are of no use without access.
fn device_rules(privileged: bool, devices: &[DeviceNode]) -> Vec<LinuxDeviceCgroup> {
    use LinuxDeviceType::{A, B, C};
    let rule = |allow, kind, major: Option<i64>, minor: Option<i64>, access: &str| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(allow);
        rule.set_typ(Some(kind));
        rule.set_major(major);
        rule.set_minor(minor);
        rule.set_access(Some(access.to_owned()));
        rule
    };
    if privileged {
        return vec![rule(true, A, None, None, "rwm")];
    }
    let mut rules = vec![
        rule(false, A, None, None, "rwm"),
        rule(true, C, None, None, "m"),
        rule(true, B, None, None, "m"),
    ];
    // Not 5:1, the console of the node. 10:200, `/dev/net/tun`, is open with the other
    // runtimes, and there are users who make the node themselves; an interface it gives only
    // to who has CAP_NET_ADMIN, and only in the network namespace of the pod.
    let harmless = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (10, 200)];
    rules.extend(harmless.map(|(major, minor)| rule(true, C, Some(major), Some(minor), "rwm")));
    rules.push(rule(true, C, Some(136), None, "rwm"));
    rules.extend(devices.iter().map(|device| {
        let node = &device.node;
        rule(true, node.typ(), Some(node.major()), Some(node.minor()), &device.permissions)
    }));
    rules
}

#[cfg(test)]
mod tests {
    use super::{
        DeviceNode, ImageDefaults, Node, Request, Sandbox, User, build, device_rules, oom_score_adj,
    };
    use crate::spec::{
        capabilities,
        config::{ContainerConfig, NamespaceMode, Resources},
    };
    use oci_spec::runtime::{LinuxDevice, LinuxNamespaceType, Spec};

    fn node() -> Node {
        Node {
            capabilities: capabilities::from_bits(u64::MAX),
            lowest_oom_score_adj: -1000,
            processors: 2,
            hard_limits: Vec::new(),
            user_namespaces: false,
        }
    }

    fn spec(config: &ContainerConfig, image: &ImageDefaults) -> Result<Spec, super::Error> {
        build(&Request {
            config,
            image,
            volumes: &[],
            sandbox: &Sandbox::default(),
            user: &User { home: "/root".to_owned(), ..User::default() },
            node: &node(),
            devices: &[],
            apparmor: None,
            selinux: None,
        })
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn commands_merge_with_the_images() {
        let image = ImageDefaults {
            entrypoint: strings(&["entry"]),
            cmd: strings(&["default"]),
            ..ImageDefaults::default()
        };
        for (command, args, expected) in [
            (vec![], vec![], vec!["entry", "default"]),
            (vec![], vec!["x"], vec!["entry", "x"]),
            (vec!["c"], vec![], vec!["c"]),
            (vec!["c"], vec!["x"], vec!["c", "x"]),
        ] {
            let config = ContainerConfig {
                command: strings(&command),
                args: strings(&args),
                ..ContainerConfig::default()
            };
            let spec = spec(&config, &image).unwrap();
            assert_eq!(spec.process().as_ref().unwrap().args().as_ref().unwrap(), &expected);
        }
        let error = spec(&ContainerConfig::default(), &ImageDefaults::default()).unwrap_err();
        assert!(error.to_string().starts_with("command"), "{error}");
    }

    #[test]
    fn labels_are_those_of_the_process_and_of_what_is_new() {
        let label = |text| crate::spec::selinux::Label::parse(text).unwrap();
        let labels = crate::spec::selinux::Labels {
            process: label("u:r:container_t:s0:c1,c2"),
            mount: label("u:object_r:container_file_t:s0:c1,c2"),
        };
        let spec = build(&Request {
            config: &ContainerConfig { command: strings(&["x"]), ..ContainerConfig::default() },
            image: &ImageDefaults::default(),
            volumes: &[],
            sandbox: &Sandbox::default(),
            user: &User::default(),
            node: &node(),
            devices: &[],
            apparmor: Some("own".to_owned()),
            selinux: Some(&labels),
        })
        .unwrap();
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.apparmor_profile().as_deref(), Some("own"));
        assert_eq!(process.selinux_label().as_deref(), Some("u:r:container_t:s0:c1,c2"));
        let context = "context=u:object_r:container_file_t:s0:c1,c2".to_owned();
        for mount in spec.mounts().iter().flatten() {
            let is_new = matches!(mount.typ().as_deref(), Some("tmpfs" | "devpts" | "mqueue"));
            let has_it = mount.options().as_ref().unwrap().contains(&context);
            assert_eq!(has_it, is_new, "{mount:?}");
        }
    }

    #[test]
    fn the_containers_environment_wins() {
        let image =
            ImageDefaults { env: strings(&["PATH=/image", "A=1"]), ..ImageDefaults::default() };
        let config = ContainerConfig {
            command: strings(&["x"]),
            envs: vec![("A".to_owned(), "2=3".to_owned())],
            tty: true,
            ..ContainerConfig::default()
        };
        let spec = spec(&config, &image).unwrap();
        let environment = spec.process().as_ref().unwrap().env().clone().unwrap();
        assert_eq!(environment, ["PATH=/image", "TERM=xterm", "HOME=/root", "A=2=3"]);
    }

    #[test]
    fn privileged_lifts_masks_and_device_rules() {
        let mut config = ContainerConfig { command: strings(&["x"]), ..ContainerConfig::default() };
        let linux = |config: &ContainerConfig| {
            spec(config, &ImageDefaults::default()).unwrap().linux().clone().unwrap()
        };
        // Who says something about security and names no masks wants none.
        assert!(linux(&config).masked_paths().as_ref().unwrap().is_empty());
        config.security.default_masks = true;
        for path in ["/proc/kcore", "/sys/devices/system/cpu/cpu1/thermal_throttle"] {
            assert!(linux(&config).masked_paths().as_ref().unwrap().contains(&path.to_owned()));
        }
        assert!(
            linux(&config).readonly_paths().as_ref().unwrap().contains(&"/proc/sys".to_owned())
        );
        config.security.privileged = true;
        let linux = linux(&config);
        assert!(linux.masked_paths().as_ref().unwrap().is_empty());
        assert!(linux.readonly_paths().as_ref().unwrap().is_empty());
        let rules = linux.resources().as_ref().unwrap().devices().clone().unwrap();
        assert!(rules.iter().all(|rule| rule.allow()));
    }

    #[test]
    fn host_namespaces_are_left_out() {
        let mut config = ContainerConfig { command: strings(&["x"]), ..ContainerConfig::default() };
        config.security.namespaces.network = NamespaceMode::Node;
        config.security.namespaces.pid = NamespaceMode::Node;
        config.security.namespaces.ipc = NamespaceMode::Node;
        let spec = spec(&config, &ImageDefaults::default()).unwrap();
        let kinds: Vec<_> = spec
            .linux()
            .as_ref()
            .unwrap()
            .namespaces()
            .as_ref()
            .unwrap()
            .iter()
            .map(|namespace| namespace.typ())
            .collect();
        assert_eq!(kinds, [LinuxNamespaceType::Mount, LinuxNamespaceType::Cgroup]);
    }

    #[test]
    fn asked_devices_get_their_access() {
        let mut fuse = LinuxDevice::default();
        fuse.set_major(10).set_minor(229);
        let rules = device_rules(false, &[DeviceNode { node: fuse, permissions: "r".to_owned() }]);
        assert!(!rules[0].allow());
        let last = rules.last().unwrap();
        assert_eq!((last.major(), last.minor()), (Some(10), Some(229)));
        assert_eq!(last.access().as_deref(), Some("r"));
    }

    #[test]
    fn scores_stay_within_what_the_daemon_may_give() {
        let resources = Resources { oom_score_adj: -998, ..Resources::default() };
        assert_eq!(oom_score_adj(Some(&resources), &node()), -998);
        let node = Node { lowest_oom_score_adj: 0, ..node() };
        assert_eq!(oom_score_adj(Some(&resources), &node), 0);
    }
}
