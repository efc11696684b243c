//! Profiles from files, in the format of the OCI runtime spec.
//!
//! What Docker's own format adds is taken where it is harmless: comments, and `archMap` in
//! place of `architectures`. Its conditional rules (`includes`, `excludes`) are refused: to
//! leave out their conditions would allow what they forbid. Fields that are unknown are
//! refused too, since a misspelt condition would be a rule without it.

use std::path::PathBuf;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use crate::spec::error::Error;

const FIELD: &str = "security_context.seccomp.localhost_ref";

/// Reads a profile.
///
/// # Errors
/// What is no profile, with the place and the name of the field; what is not supported.
pub fn parse(json: &[u8]) -> Result<LinuxSeccomp, Error> {
    let profile: Profile = serde_json::from_slice(json).map_err(|error| {
        Error::invalid(FIELD, format!("the file is no seccomp profile of OCI: {error}"))
    })?;
    profile.check()?;
    profile.try_into()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Profile {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<Arch>>,
    arch_map: Option<Vec<Architectures>>,
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    listener_path: Option<PathBuf>,
    #[serde(rename = "listenerMetadata")]
    _listener_metadata: Option<IgnoredAny>,
    #[serde(rename = "comment")]
    _comment: Option<IgnoredAny>,
    syscalls: Option<Vec<Rule>>,
}

/// Docker's way to write architectures.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Architectures {
    architecture: Arch,
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    names: Vec<String>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    args: Option<Vec<Argument>>,
    #[serde(rename = "comment")]
    _comment: Option<IgnoredAny>,
    includes: Option<Value>,
    excludes: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Argument {
    index: usize,
    value: u64,
    value_two: Option<u64>,
    op: LinuxSeccompOperator,
}

impl Profile {
    fn check(&self) -> Result<(), Error> {
        if self.listener_path.as_ref().is_some_and(|path| !path.as_os_str().is_empty()) {
            return Err(notify("listenerPath"));
        }
        if self.default_action == LinuxSeccompAction::ScmpActNotify {
            return Err(notify("defaultAction"));
        }
        check_errno("defaultErrnoRet", self.default_errno_ret)?;
        let mut rules = self.syscalls.iter().flatten().enumerate();
        rules.try_for_each(|(position, rule)| rule.check(position))
    }
}

impl Rule {
    fn check(&self, position: usize) -> Result<(), Error> {
        let at = |field: &str| format!("syscalls[{position}].{field}");
        for (name, condition) in [("includes", &self.includes), ("excludes", &self.excludes)] {
            if condition.as_ref().is_some_and(|condition| !is_empty(condition)) {
                let reason = format!(
                    "{} is of Docker's format and cannot be followed here; keep the rule without \
                     it, or remove the rule",
                    at(name)
                );
                return Err(Error::invalid(FIELD, reason));
            }
        }
        if self.names.is_empty() {
            return Err(Error::invalid(FIELD, format!("{} names no system call", at("names"))));
        }
        if self.action == LinuxSeccompAction::ScmpActNotify {
            return Err(notify(&at("action")));
        }
        let wrong = self.args.iter().flatten().find(|argument| argument.index > 5);
        if let Some(argument) = wrong {
            let reason =
                format!("{} is {}; arguments are 0 to 5", at("args.index"), argument.index);
            return Err(Error::invalid(FIELD, reason));
        }
        check_errno(&at("errnoRet"), self.errno_ret)
    }
}

fn is_empty(condition: &Value) -> bool {
    condition.is_null() || condition.as_object().is_some_and(serde_json::Map::is_empty)
}

fn notify(at: &str) -> Error {
    let reason = format!("{at} asks for notifications; use SCMP_ACT_ERRNO or SCMP_ACT_LOG instead");
    Error::unsupported(FIELD, reason)
}

fn check_errno(at: &str, errno: Option<u32>) -> Result<(), Error> {
    match errno {
        Some(4096..) => Err(Error::invalid(FIELD, format!("{at} must be at most 4095"))),
        _ => Ok(()),
    }
}

impl TryFrom<Profile> for LinuxSeccomp {
    type Error = Error;

    fn try_from(profile: Profile) -> Result<Self, Error> {
        let mapped = || profile.arch_map.iter().flatten().flat_map(Architectures::all).collect();
        let architectures = match profile.architectures {
            Some(listed) if !listed.is_empty() => listed,
            _ => mapped(),
        };
        let rules = profile.syscalls.unwrap_or_default();
        let rules: Vec<LinuxSyscall> =
            rules.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        let mut seccomp = LinuxSeccomp::default();
        seccomp.set_default_action(profile.default_action);
        seccomp.set_default_errno_ret(profile.default_errno_ret);
        seccomp.set_architectures(Some(architectures));
        seccomp.set_flags(profile.flags);
        seccomp.set_syscalls(Some(rules));
        Ok(seccomp)
    }
}

impl Architectures {
    /// Of the entry for this machine: those of other machines say nothing about it.
    fn all(&self) -> Vec<Arch> {
        let native = if cfg!(target_arch = "aarch64") {
            Arch::ScmpArchAarch64
        } else {
            Arch::ScmpArchX86_64
        };
        if self.architecture != native {
            return Vec::new();
        }
        let others = self.sub_architectures.iter().flatten().copied();
        std::iter::once(self.architecture).chain(others).collect()
    }
}

impl TryFrom<Rule> for LinuxSyscall {
    type Error = Error;

    fn try_from(rule: Rule) -> Result<Self, Error> {
        let arguments = rule.args.unwrap_or_default();
        let arguments: Vec<LinuxSeccompArg> =
            arguments.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        let mut syscall = LinuxSyscall::default();
        syscall.set_names(rule.names);
        syscall.set_action(rule.action);
        syscall.set_errno_ret(rule.errno_ret);
        syscall.set_args(Some(arguments));
        Ok(syscall)
    }
}

impl TryFrom<Argument> for LinuxSeccompArg {
    type Error = Error;

    fn try_from(argument: Argument) -> Result<Self, Error> {
        LinuxSeccompArgBuilder::default()
            .index(argument.index)
            .value(argument.value)
            .value_two(argument.value_two.unwrap_or(0))
            .op(argument.op)
            .build()
            .map_err(|error| Error::invalid(FIELD, format!("an argument is wrong: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::kind::Kind;

    #[test]
    fn a_profile_of_oci() {
        let json = br#"{
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
            "architectures": ["SCMP_ARCH_X86_64"], "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls": [
                {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": null},
                {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "comment": "threads", "args": [
                    {"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
                ], "includes": {}, "excludes": {}}
            ]
        }"#;
        let profile = parse(json).unwrap();
        assert_eq!(profile.default_errno_ret(), Some(38));
        let rules = profile.syscalls().as_ref().unwrap();
        assert_eq!(rules[0].names(), &["read", "write"]);
        let argument = rules[1].args().as_ref().unwrap()[0];
        assert_eq!((argument.value(), argument.value_two()), (0x7e02_0000, Some(0)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let rule =
            |rule: &str| format!(r#"{{"defaultAction":"SCMP_ACT_KILL","syscalls":[{rule}]}}"#);
        let cases = [
            ("{}".to_owned(), "defaultAction"),
            (r#"{"defaultAction": "SCMP_ACT_DENY"}"#.to_owned(), "SCMP_ACT_DENY"),
            (r#"{"defaultAction": "SCMP_ACT_LOG", "archs": []}"#.to_owned(), "archs"),
            (rule(r#"{"names":["read"],"action":"SCMP_ACT_LOG","arg":[]}"#), "arg"),
            (rule(r#"{"names":[],"action":"SCMP_ACT_LOG"}"#), "syscalls[0].names"),
            (
                rule(r#"{"names":["a"],"action":"SCMP_ACT_LOG","includes":{"caps":["X"]}}"#),
                "syscalls[0].includes",
            ),
            (rule(r#"{"names":["a"],"action":"SCMP_ACT_ERRNO","errnoRet":4096}"#), "errnoRet"),
            (
                rule(
                    r#"{"names":["a"],"action":"SCMP_ACT_LOG",
                        "args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}"#,
                ),
                "args.index",
            ),
        ];
        for (json, name) in cases {
            let error = parse(json.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidArgument, "{json}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn notifications_are_not_supported() {
        let listener = r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/agent"}"#;
        let action = r#"{"defaultAction":"SCMP_ACT_ALLOW",
            "syscalls":[{"names":["mount"],"action":"SCMP_ACT_NOTIFY"}]}"#;
        for json in [listener, action] {
            assert_eq!(parse(json.as_bytes()).unwrap_err().kind(), Kind::Unimplemented);
        }
    }

    #[test]
    fn dockers_map_of_architectures_stands_for_the_list() {
        let json = br#"{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}
        ]}"#;
        assert_eq!(parse(json).unwrap().architectures().as_ref().unwrap().len(), 2);
    }
}
