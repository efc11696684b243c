//! The kernel, what this process may do with it, and its security modules.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd,
    path::Path,
};

use oci_spec::runtime::Capability;
use rustix::fs::OFlags;

use super::finding::{Finding, aside};
use crate::{
    runtime::seccomp,
    spec::{capabilities, seccomp::default_profile},
    sys::{path::Root, seccomp::load},
};

/// The oldest kernel that everything here is written for.
const OLDEST: (u32, u32) = (5, 15);

/// What the daemon cannot do without.
const REQUIRED: [Capability; 12] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetAdmin,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysAdmin,
    Capability::SysChroot,
];

/// The kernel and the rights of this process.
pub(super) fn survey() -> Vec<Finding> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    vec![
        judge_release(&release),
        judge_user(
            rustix::process::geteuid().is_root(),
            &fs::read_to_string("/proc/self/uid_map").unwrap_or_default(),
        ),
        judge_capabilities(number_of(&status, "CapEff:")),
    ]
}

/// What keeps containers in.
pub(super) fn survey_security() -> Vec<Finding> {
    let beneath = || {
        let root = File::open("/proc")?;
        Root::new(root.as_fd()).open(Path::new("self/../version"), OFlags::PATH).map(drop)
    };
    vec![
        Finding::required("openat2", beneath(), "boot a kernel of 5.15 or later"),
        seccomp_filter(),
    ]
}

fn number_of(status: &str, field: &str) -> u64 {
    let text = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    u64::from_str_radix(text.trim(), 16).unwrap_or(0)
}

fn judge_release(release: &str) -> Finding {
    let what = "kernel";
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    };
    if version >= OLDEST {
        return Finding::ok(what, release);
    }
    let mend = format!("boot a kernel of {}.{} or later", OLDEST.0, OLDEST.1);
    Finding::fail(what, release, mend)
}

/// `uid_map` is that of the process; the initial user namespace maps every user to itself.
fn judge_user(is_root: bool, uid_map: &str) -> Finding {
    let what = "root";
    let mapped: Vec<&str> = uid_map.split_whitespace().collect();
    match (is_root, mapped == ["0", "0", "4294967295"]) {
        (true, true) => Finding::ok(what, "user 0 of the machine"),
        (true, false) => Finding::warn(
            what,
            "user 0 of a user namespace only",
            "run criquet outside of containers, as root of the machine",
        ),
        (false, _) => Finding::fail(what, "not user 0", "run this command, and criquet, as root"),
    }
}

fn judge_capabilities(effective: u64) -> Finding {
    let what = "capabilities";
    let have = capabilities::from_bits(effective);
    let all = capabilities::from_bits(u64::MAX);
    let missing = |wanted: &mut dyn Iterator<Item = Capability>| -> Vec<String> {
        let mut names: Vec<String> =
            wanted.filter(|capability| !have.contains(capability)).map(name_of).collect();
        names.sort();
        names
    };
    let required = missing(&mut REQUIRED.into_iter());
    if !required.is_empty() {
        let found = format!("{} missing", required.join(", "));
        let mend = "run as root, and let the unit's CapabilityBoundingSet= hold these";
        return Finding::fail(what, found, mend);
    }
    let others = missing(&mut all.into_iter());
    if others.is_empty() {
        return Finding::ok(what, "all");
    }
    let mut mend = "containers cannot be given these; give them to the service".to_owned();
    if !have.contains(&Capability::SysResource) {
        mend.push_str(
            ". Without CAP_SYS_RESOURCE, start it with a low oom_score_adj and high limits: \
             containers get none that are better",
        );
    }
    Finding::warn(what, format!("{} missing", others.join(", ")), mend)
}

fn name_of(capability: Capability) -> String {
    let name = capability.to_string();
    if name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
}

/// Loads the default profile into a thread.
fn seccomp_filter() -> Finding {
    let what = "seccomp";
    let mend = "use a kernel with CONFIG_SECCOMP_FILTER";
    let filter = match seccomp::compile(&default_profile(&Default::default())) {
        Ok(filter) => filter,
        Err(error) => return Finding::fail(what, error, mend),
    };
    let length = filter.program.len();
    let loaded = aside(move || {
        rustix::thread::set_no_new_privs(true).map_err(io::Error::from)?;
        load(&filter.program, filter.flags)
    });
    match loaded {
        Ok(()) => Finding::ok(what, format!("the default profile loads ({length} instructions)")),
        Err(error) => Finding::fail(what, error, mend),
    }
}

#[cfg(test)]
mod tests {
    use super::{judge_capabilities, judge_release, judge_user};
    use crate::cli::check::Status;

    #[test]
    fn kernels() {
        for (release, status) in [
            ("6.18.44-fc-v595", Status::Ok),
            ("5.15.0-100-generic", Status::Ok),
            ("7.0", Status::Ok),
            ("5.14.0-427.el9.x86_64", Status::Fail),
            ("4.19", Status::Fail),
            ("strange", Status::Fail),
        ] {
            assert_eq!(judge_release(release).status, status, "{release}");
        }
    }

    #[test]
    fn users() {
        assert_eq!(judge_user(true, "  0  0 4294967295\n").status, Status::Ok);
        assert_eq!(judge_user(true, "0 100000 65536").status, Status::Warn);
        assert_eq!(judge_user(false, "0 0 4294967295").status, Status::Fail);
    }

    #[test]
    fn capabilities_by_what_they_are_needed_for() {
        let all = u64::MAX;
        assert_eq!(judge_capabilities(all).status, Status::Ok);
        let finding = judge_capabilities(all & !(1 << 24));
        assert_eq!(finding.status, Status::Warn);
        assert!(finding.found.contains("CAP_SYS_RESOURCE"), "{finding:?}");
        assert!(finding.mend.contains("oom_score_adj"), "{finding:?}");
        let finding = judge_capabilities(all & !(1 << 21));
        assert_eq!(finding.status, Status::Fail);
        assert_eq!(finding.found, "CAP_SYS_ADMIN missing");
    }
}
