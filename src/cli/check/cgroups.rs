//! cgroups: which version, which controllers, and whether groups can be made.

use std::{fs, io, path::Path};

use super::finding::Finding;
use crate::{
    pod::CgroupDriver,
    runtime::cgroup::{ROOT, Version},
    sys::bpf::{Instruction, load_device_filter},
    systemd::Systemd,
};

/// Controllers without which no pod can be limited as Kubernetes wants it.
const REQUIRED: [&str; 3] = ["cpu", "memory", "pids"];
/// What else limits can be set for.
const USEFUL: [&str; 3] = ["cpuset", "io", "hugetlb"];
/// The same on v1, where two of them are hierarchies of their own.
const REQUIRED_V1: [&str; 5] = ["cpu", "memory", "pids", "devices", "freezer"];
const USEFUL_V1: [&str; 4] = ["cpuset", "cpuacct", "blkio", "hugetlb"];

/// Everything about cgroups.
pub(super) fn survey(wanted: CgroupDriver) -> Vec<Finding> {
    let version = match Version::detect() {
        Ok(version) => version,
        Err(error) => {
            let mend = format!("mount cgroup2 at {ROOT}");
            return vec![Finding::fail("cgroups", format!("{ROOT}: {error}"), mend)];
        }
    };
    let root = Path::new(ROOT);
    let controllers = match version {
        Version::V2 => fs::read_to_string(root.join("cgroup.controllers"))
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        Version::V1 => hierarchies(root),
    };
    vec![
        judge_version(version, root.join("unified/cgroup.procs").exists()),
        judge_controllers(version, &controllers),
        judge_making(make_groups(version, root, &controllers)),
        device_rules(version),
        driver(version, wanted, Systemd::of_this_machine()),
    ]
}

fn hierarchies(root: &Path) -> Vec<String> {
    REQUIRED_V1
        .into_iter()
        .chain(USEFUL_V1)
        .filter(|name| root.join(name).join("cgroup.procs").exists())
        .map(str::to_owned)
        .collect()
}

fn judge_version(version: Version, unified: bool) -> Finding {
    let what = "cgroup version";
    let found = match (version, unified) {
        (Version::V2, _) => return Finding::ok(what, "2"),
        (Version::V1, true) => "1, with an empty version 2 beside it (hybrid)",
        (Version::V1, false) => "1",
    };
    let mend = "works; boot with systemd.unified_cgroup_hierarchy=1, since Kubernetes is giving \
                up version 1 and memory QoS, PSI and swap need version 2";
    Finding::warn(what, found, mend)
}

fn judge_controllers(version: Version, have: &[String]) -> Finding {
    let what = "cgroup controllers";
    let missing = |wanted: &[&str]| -> Vec<String> {
        let absent = |name: &&&str| !have.iter().any(|have| have == **name);
        wanted.iter().filter(absent).map(|name| (*name).to_owned()).collect()
    };
    let (required, useful) = match version {
        Version::V2 => (missing(&REQUIRED), missing(&USEFUL)),
        Version::V1 => (missing(&REQUIRED_V1), missing(&USEFUL_V1)),
    };
    let found = |missing: &[String]| format!("{}; missing: {}", have.join(" "), missing.join(" "));
    if !required.is_empty() {
        let mend = "turn them on in the kernel (cgroup_enable=memory where it is off by default), \
                    and take cgroup_disable= from its command line";
        return Finding::fail(what, found(&required), mend);
    }
    if !useful.is_empty() {
        let mend = "pods that ask for such limits are refused; use a kernel that has them";
        return Finding::warn(what, found(&useful), mend);
    }
    Finding::ok(what, have.join(" "))
}

/// Makes an empty group in each hierarchy and removes it.
fn make_groups(version: Version, root: &Path, controllers: &[String]) -> io::Result<()> {
    let name = format!("criquet-check-{}", std::process::id());
    let make = |hierarchy: &Path| {
        let group = hierarchy.join(&name);
        fs::create_dir(&group)?;
        fs::remove_dir(&group)
    };
    match version {
        Version::V2 => make(root),
        Version::V1 => controllers.iter().try_for_each(|name| make(&root.join(name))),
    }
}

fn judge_making(tried: io::Result<()>) -> Finding {
    let mend = format!(
        "run as root where {ROOT} is not mounted read-only (in a container: with a cgroup \
         namespace of its own and privileged)"
    );
    Finding::required("cgroups writable", tried, &mend)
}

/// On version 2 device rules are programs: this one allows everything and is never attached.
fn device_rules(version: Version) -> Finding {
    let what = "device rules";
    if version == Version::V1 {
        return Finding::ok(what, "devices controller");
    }
    let instruction = |code, immediate| Instruction { code, registers: 0, offset: 0, immediate };
    let program = [instruction(0xb7, 1), instruction(0x95, 0)];
    match load_device_filter(&program) {
        Ok(_) => Finding::ok(what, "eBPF programs"),
        Err(error) => Finding::fail(
            what,
            error,
            "use a kernel with CONFIG_CGROUP_BPF, and run as root with CAP_BPF or CAP_SYS_ADMIN",
        ),
    }
}

/// Who makes the cgroups of pods. systemd is asked for its version, over the way that scopes
/// will go.
fn driver(version: Version, wanted: CgroupDriver, systemd: Option<Systemd>) -> Finding {
    let what = "cgroup driver";
    let can_do = systemd.as_ref().filter(|_| version == Version::V2);
    match (wanted, can_do) {
        (CgroupDriver::Systemd, None) => Finding::fail(
            what,
            "systemd is asked for, and does not run this node with cgroup version 2",
            "set cgroup_driver to \"auto\" or \"cgroupfs\"",
        ),
        (CgroupDriver::Cgroupfs, _) | (_, None) => {
            let found = match systemd {
                Some(_) => "cgroupfs, beside systemd; the kubelet needs cgroupDriver: cgroupfs",
                None => "cgroupfs, without systemd; the kubelet needs cgroupDriver: cgroupfs",
            };
            Finding::ok(what, found)
        }
        (_, Some(systemd)) => match version_of(systemd) {
            Ok(version) => {
                let found = format!("systemd {version}; the kubelet needs cgroupDriver: systemd");
                Finding::ok(what, found)
            }
            Err(error) => {
                let mend = "pods cannot be made without it; start dbus.socket, or set \
                            cgroup_driver to \"cgroupfs\", here and for the kubelet";
                Finding::fail(what, error, mend)
            }
        },
    }
}

fn version_of(systemd: &Systemd) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(systemd.version()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{CgroupDriver, Version, driver, judge_controllers, judge_version};
    use crate::cli::check::Status;

    fn names(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn controllers_of_each_version() {
        for (version, have, status) in [
            (Version::V2, "cpuset cpu io memory hugetlb pids rdma", Status::Ok),
            (Version::V2, "cpu memory pids", Status::Warn),
            (Version::V2, "cpu pids cpuset io hugetlb", Status::Fail),
            (Version::V1, "cpu memory pids freezer", Status::Fail),
            (Version::V1, "cpu memory pids freezer devices", Status::Warn),
        ] {
            let finding = judge_controllers(version, &names(have));
            assert_eq!(finding.status, status, "{finding:?}");
        }
        let finding = judge_controllers(Version::V2, &names("cpu pids"));
        assert!(finding.found.ends_with("missing: memory"), "{finding:?}");
    }

    #[test]
    fn version_1_is_worth_a_warning() {
        assert_eq!(judge_version(Version::V2, false).status, Status::Ok);
        assert!(judge_version(Version::V1, true).found.contains("hybrid"));
    }
    #[test]
    fn a_driver_that_cannot_be_had_is_a_failure() {
        for (version, wanted, status) in [
            (Version::V2, CgroupDriver::Systemd, Status::Fail),
            (Version::V2, CgroupDriver::Auto, Status::Ok),
            (Version::V1, CgroupDriver::Systemd, Status::Fail),
            (Version::V1, CgroupDriver::Cgroupfs, Status::Ok),
        ] {
            let finding = driver(version, wanted, None);
            assert_eq!(finding.status, status, "{finding:?}");
        }
    }
}
