//! Which capabilities a container gets.

use std::{collections::HashSet, str::FromStr};

use oci_spec::runtime::Capability;

use super::{config::ContainerSecurity, error::Error};

/// What a container has unless it is told otherwise; the set of containerd and Docker.
const DEFAULT: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// All capabilities in the order of their numbers.
const ALL: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// A set of capabilities.
pub type Set = HashSet<Capability>;

/// Those whose bits are set, as in `CapBnd` of `/proc/self/status`.
pub fn from_bits(bits: u64) -> Set {
    ALL.iter().enumerate().filter(|(number, _)| bits >> number & 1 == 1).map(|(_, &c)| c).collect()
}

/// What a container may have at most, of what the daemon has itself (`available`).
///
/// # Errors
/// One that is asked for and the daemon does not have.
pub fn permitted(security: &ContainerSecurity, available: &Set) -> Result<Set, Error> {
    if security.privileged {
        return Ok(available.clone());
    }
    let mut set: Set = DEFAULT.into_iter().collect();
    // "ALL" first, so that single ones can be taken back: drop ALL, add NET_ADMIN.
    if has_all(&security.add_capabilities) {
        set = available.clone();
    }
    if has_all(&security.drop_capabilities) {
        set.clear();
    }
    for name in named(&security.add_capabilities) {
        let Some(capability) = find(name) else { continue };
        if !available.contains(&capability) {
            let reason =
                format!("{name} is not among the capabilities that this node's daemon has");
            return Err(Error::invalid("capabilities.add_capabilities", reason));
        }
        set.insert(capability);
    }
    // Last: what is in both lists is dropped.
    for capability in named(&security.drop_capabilities).filter_map(|name| find(name)) {
        set.remove(&capability);
    }
    set.retain(|capability| available.contains(capability));
    Ok(set)
}

/// The names in both lists that are no capability, which mean nothing: one list is written for
/// nodes with kernels of all ages.
pub fn unknown(security: &ContainerSecurity) -> impl Iterator<Item = &str> {
    let (add, drop) = (&security.add_capabilities, &security.drop_capabilities);
    named(add).chain(named(drop)).filter(|name| find(name).is_none()).map(String::as_str)
}

/// What a program keeps without being root; each must be permitted.
pub fn ambient(security: &ContainerSecurity, permitted: &Set) -> Result<Set, Error> {
    let field = "capabilities.add_ambient_capabilities";
    let names = &security.add_ambient_capabilities;
    if has_all(names) {
        return Ok(permitted.clone());
    }
    named(names)
        .map(|name| {
            let capability = parse(field, name)?;
            if permitted.contains(&capability) {
                return Ok(capability);
            }
            let reason = format!("{name} must also be in add_capabilities");
            Err(Error::invalid(field, reason))
        })
        .collect()
}

fn has_all(names: &[String]) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case("ALL"))
}

fn named(names: &[String]) -> impl Iterator<Item = &String> {
    names.iter().filter(|name| !name.eq_ignore_ascii_case("ALL"))
}

fn parse(field: &'static str, name: &str) -> Result<Capability, Error> {
    let reason = || format!("{name:?} is not a capability, such as NET_ADMIN");
    find(name).ok_or_else(|| Error::invalid(field, reason()))
}

fn find(name: &str) -> Option<Capability> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let found = Capability::from_str(short);
    found.or_else(|_| Capability::from_str(&format!("CAP_{short}"))).ok()
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Capability;

    use super::{ALL, Set, ambient, from_bits, permitted, unknown};
    use crate::spec::config::ContainerSecurity;

    fn security(add: &[&str], drop: &[&str]) -> ContainerSecurity {
        let strings = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        ContainerSecurity {
            add_capabilities: strings(add),
            drop_capabilities: strings(drop),
            ..ContainerSecurity::default()
        }
    }

    fn all() -> Set {
        ALL.into_iter().collect()
    }

    #[test]
    fn bits_are_numbers_of_the_kernel() {
        assert_eq!(from_bits(1 << 21), Set::from([Capability::SysAdmin]));
        assert_eq!(from_bits(u64::MAX).len(), 41);
    }

    #[test]
    fn dropping_all_and_adding_one_leaves_one() {
        let set = permitted(&security(&["NET_ADMIN"], &["ALL"]), &all()).unwrap();
        assert_eq!(set, Set::from([Capability::NetAdmin]));
        let set = permitted(&security(&["CAP_sys_time"], &["ALL"]), &all()).unwrap();
        assert_eq!(set, Set::from([Capability::SysTime]));
    }

    #[test]
    fn adding_all_and_dropping_one() {
        let set = permitted(&security(&["ALL"], &["SYS_ADMIN"]), &all()).unwrap();
        assert_eq!(set.len(), 40);
        assert!(!set.contains(&Capability::SysAdmin));
    }

    #[test]
    fn the_daemon_gives_only_what_it_has() {
        let available = Set::from([Capability::Chown]);
        assert_eq!(permitted(&security(&[], &[]), &available).unwrap(), available);
        let privileged = ContainerSecurity { privileged: true, ..security(&[], &[]) };
        assert_eq!(permitted(&privileged, &available).unwrap(), available);
        let error = permitted(&security(&["SYS_ADMIN"], &[]), &available).unwrap_err();
        assert!(error.to_string().contains("SYS_ADMIN"), "{error}");
    }

    #[test]
    fn unknown_names_are_passed_over() {
        let odd = security(&["NET_ADMINS", "NET_ADMIN"], &["CAP_"]);
        let plain = security(&["NET_ADMIN"], &[]);
        assert_eq!(permitted(&odd, &all()).unwrap(), permitted(&plain, &all()).unwrap());
        assert_eq!(unknown(&odd).collect::<Vec<_>>(), ["NET_ADMINS", "CAP_"]);
    }

    #[test]
    fn what_is_dropped_and_added_is_dropped() {
        let set = permitted(&security(&["NET_ADMIN"], &["NET_ADMIN"]), &all()).unwrap();
        assert!(!set.contains(&Capability::NetAdmin));
    }

    #[test]
    fn ambient_ones_have_to_be_permitted() {
        let mut security = security(&[], &[]);
        security.add_ambient_capabilities = vec!["NET_BIND_SERVICE".to_owned()];
        let permitted = permitted(&security, &all()).unwrap();
        let expected = Set::from([Capability::NetBindService]);
        assert_eq!(ambient(&security, &permitted).unwrap(), expected);
        security.add_ambient_capabilities = vec!["SYS_ADMIN".to_owned()];
        assert!(ambient(&security, &permitted).is_err());
    }
}
