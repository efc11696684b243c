//! What keeps containers in beyond namespaces: security modules, filters, and what programs in
//! containers can ask of the kernel for themselves.

use std::{fs, io};

use super::finding::Finding;
use crate::{
    cli::config::SecurityConfig,
    runtime::apparmor,
    spec::selinux::Defaults,
    sys::{hardening, probe},
};

/// Everything but the filters, which are tried with the kernel.
pub(super) fn survey(config: &SecurityConfig) -> Vec<Finding> {
    vec![
        judge_modules(fs::read_to_string("/sys/kernel/security/lsm").ok().as_deref()),
        app_armor(config),
        judge_selinux(
            fs::read_to_string("/sys/fs/selinux/enforce").ok().as_deref(),
            config.selinux,
            selinux_defaults(),
        ),
        optional("seccomp notification", probe::seccomp_notification().map(|()| "works".into())),
        optional("landlock", probe::landlock_version().map(|version| format!("version {version}"))),
        defence(
            "MDWE",
            // This process needs no such memory either.
            hardening::deny_write_execute(),
            "in daemon and monitors no memory is written and executed",
        ),
        judge_core_scheduling(probe::core_scheduling()),
    ]
}

/// What no pod needs, and programs in containers may use.
fn optional(what: &'static str, tried: io::Result<String>) -> Finding {
    match tried {
        Ok(found) => Finding::ok(what, found),
        Err(error) => Finding::ok(what, format!("not in this kernel ({error}); no pod needs it")),
    }
}

/// What Criquet has for itself where the kernel gives it.
fn defence(what: &'static str, tried: io::Result<()>, gives: &str) -> Finding {
    match tried {
        Ok(()) => Finding::ok(what, format!("works: {gives}")),
        Err(error) => {
            Finding::ok(what, format!("not in this kernel ({error}); pods run all the same"))
        }
    }
}

fn judge_core_scheduling(tried: io::Result<()>) -> Finding {
    let what = "core scheduling";
    match tried {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
            Finding::ok(what, "not needed: each core has one thread")
        }
        tried => optional(what, tried.map(|()| "works".to_owned())),
    }
}

fn judge_modules(list: Option<&str>) -> Finding {
    let what = "security modules";
    match list.map(str::trim) {
        Some(list) => Finding::ok(what, list),
        None => Finding::warn(
            what,
            "/sys/kernel/security/lsm is not there",
            "mount securityfs at /sys/kernel/security, where profiles are looked up",
        ),
    }
}

fn app_armor(config: &SecurityConfig) -> Finding {
    judge_app_armor(
        apparmor::is_enabled(),
        apparmor::profiles(),
        apparmor::find_parser().is_some(),
        &config.apparmor_profile,
    )
}

fn judge_app_armor(
    enabled: bool,
    profiles: io::Result<Vec<String>>,
    has_parser: bool,
    default: &str,
) -> Finding {
    let what = "AppArmor";
    if !enabled {
        return Finding::ok(what, "off: pods that name a profile of the node are refused");
    }
    let profiles = match profiles {
        Ok(profiles) => profiles,
        Err(error) => {
            let mend = "mount securityfs at /sys/kernel/security, and run as root of the machine";
            return Finding::warn(what, format!("on; its profiles cannot be read: {error}"), mend);
        }
    };
    let is_loaded = profiles.iter().any(|profile| profile == default);
    match default {
        "unconfined" => Finding::ok(what, "on; containers that name no profile have none"),
        apparmor::DEFAULT if has_parser => {
            let state = if is_loaded { "loaded" } else { "loaded when the daemon starts" };
            Finding::ok(what, format!("on; {default} is {state}"))
        }
        apparmor::DEFAULT => Finding::warn(
            what,
            "on; there is no apparmor_parser to load the default profile with",
            "install the package apparmor: until then containers that name no profile run without \
             one, and those that ask for RuntimeDefault are refused",
        ),
        _ if is_loaded => Finding::ok(what, format!("on; {default} is loaded")),
        _ => Finding::warn(
            what,
            format!("on; security.apparmor_profile is {default:?}, which is not loaded"),
            "load it with apparmor_parser, at boot as well: until then containers that name no \
             profile run without one",
        ),
    }
}

/// The labels of containers, or the file that has none.
fn selinux_defaults() -> Result<Defaults, String> {
    let file = Defaults::file(&fs::read_to_string("/etc/selinux/config").unwrap_or_default());
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    Defaults::parse(&text).ok_or_else(|| format!("{} names none", file.display()))
}

fn judge_selinux(
    enforce: Option<&str>,
    is_used: bool,
    defaults: Result<Defaults, String>,
) -> Finding {
    let what = "SELinux";
    let mode = match enforce.map(str::trim) {
        Some("1") => "enforcing",
        Some(_) => "permissive",
        None => return Finding::ok(what, "off"),
    };
    match defaults {
        _ if !is_used => Finding::warn(
            what,
            format!("{mode}; security.selinux is false, so that containers get no labels"),
            "set it to true: pods that ask for labels are refused without",
        ),
        Ok(defaults) => {
            Finding::ok(what, format!("{mode}; containers are {}", defaults.process.kind))
        }
        Err(reason) => Finding::warn(
            what,
            format!("{mode}; the policy has no labels for containers: {reason}"),
            "install the policy for containers (container-selinux): without it containers have the \
             rights of the daemon, and pods that ask for labels are refused",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{defence, judge_app_armor, judge_core_scheduling, judge_modules, judge_selinux};
    use crate::{cli::check::Status, spec::selinux::Defaults};

    #[test]
    fn app_armor_needs_its_parser_and_its_profile() {
        let own = "criquet-default";
        let loaded = |names: &[&str]| Ok(names.iter().map(|name| (*name).to_owned()).collect());
        for (enabled, profiles, has_parser, default, status, words) in [
            (false, loaded(&[]), false, own, Status::Ok, "off"),
            (true, loaded(&[]), true, own, Status::Ok, "when the daemon starts"),
            (true, loaded(&[own]), true, own, Status::Ok, "is loaded"),
            (true, loaded(&[own]), false, own, Status::Warn, "no apparmor_parser"),
            (true, loaded(&[own]), true, "other", Status::Warn, "\"other\", which is not loaded"),
            (true, loaded(&["other"]), false, "other", Status::Ok, "other is loaded"),
            (true, loaded(&[]), false, "unconfined", Status::Ok, "have none"),
            (true, Err(io::ErrorKind::NotFound.into()), true, own, Status::Warn, "cannot be read"),
        ] {
            let finding = judge_app_armor(enabled, profiles, has_parser, default);
            assert_eq!(finding.status, status, "{finding:?}");
            assert!(finding.found.contains(words), "{finding:?}");
        }
    }

    #[test]
    fn selinux_needs_a_policy_for_containers() {
        let text = "process = \"u:r:container_t:s0\"\nfile = \"u:o:file_t:s0\"\n";
        let labels = || Ok(Defaults::parse(text).unwrap());
        let none = || Err("no file".to_owned());
        for (enforce, is_used, defaults, status) in [
            (None, true, none(), Status::Ok),
            (Some("1"), true, labels(), Status::Ok),
            (Some("0\n"), true, labels(), Status::Ok),
            (Some("1"), false, labels(), Status::Warn),
            (Some("0"), true, none(), Status::Warn),
        ] {
            let finding = judge_selinux(enforce, is_used, defaults);
            assert_eq!(finding.status, status, "{finding:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_told() {
        assert_eq!(judge_modules(None).status, Status::Warn);
        assert_eq!(
            judge_modules(Some("capability,yama,apparmor\n")).found,
            "capability,yama,apparmor"
        );
        let missing = defence("MDWE", Err(io::Error::from_raw_os_error(libc::EINVAL)), "much");
        assert!(missing.found.contains("not in this kernel"), "{missing:?}");
        assert_eq!(defence("MDWE", Ok(()), "much").found, "works: much");
        let with = |number| judge_core_scheduling(Err(io::Error::from_raw_os_error(number)));
        assert!(with(libc::ENODEV).found.contains("not needed"));
        assert!(with(libc::EINVAL).found.contains("not in this kernel"));
    }
}
