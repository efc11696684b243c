//! Profiles from files, in the format of the OCI runtime spec.
//!
//! What Docker's own format adds is read as Docker reads it: comments, `archMap` in place of
//! `architectures`, and conditions of rules (`includes`, `excludes`). Fields that are unknown
//! are passed over, and named to the caller.

use std::path::PathBuf;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::condition::{Condition, Machine};
use crate::spec::error::Error;

const FIELD: &str = "security_context.seccomp.localhost_ref";

/// A profile that was read.
#[derive(Debug)]
pub struct Parsed {
    /// The profile, with the rules whose conditions hold.
    pub profile: LinuxSeccomp,
    /// The places of fields that nobody knows.
    pub unknown: Vec<String>,
}

/// Reads a profile, for a container on a machine.
///
/// # Errors
/// What is no profile, with the place and the name of the field; what is not supported.
pub fn parse(json: &[u8], machine: &Machine<'_>) -> Result<Parsed, Error> {
    let no_profile = |error: serde_json::Error| {
        Error::invalid(FIELD, format!("the file is no seccomp profile of OCI: {error}"))
    };
    let mut profile: Profile = serde_json::from_slice(json).map_err(no_profile)?;
    profile.check()?;
    let unknown = unknown_fields(&serde_json::from_slice(json).map_err(no_profile)?);
    if let Some(rules) = &mut profile.syscalls {
        rules.retain(|rule| {
            rule.includes.as_ref().is_none_or(|condition| condition.all_hold(machine))
                && !rule.excludes.as_ref().is_some_and(|condition| condition.any_holds(machine))
        });
    }
    Ok(Parsed { profile: profile.try_into()?, unknown })
}

/// The fields of each level: of the profile, of a rule, of an argument.
const KNOWN: [&[&str]; 3] = [
    &[
        "architectures",
        "archMap",
        "comment",
        "defaultAction",
        "defaultErrnoRet",
        "flags",
        "listenerMetadata",
        "listenerPath",
        "syscalls",
    ],
    &["action", "args", "comment", "errnoRet", "excludes", "includes", "name", "names"],
    &["index", "op", "value", "valueTwo"],
];

fn unknown_fields(profile: &Value) -> Vec<String> {
    let fields = |value: &Value, level: usize, place: &str| -> Vec<String> {
        let names = value.as_object().into_iter().flat_map(serde_json::Map::keys);
        let unknown = names.filter(|name| !KNOWN[level].contains(&name.as_str()));
        unknown.map(|name| format!("{place}{name}")).collect()
    };
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let mut unknown = fields(profile, 0, "");
    for (position, rule) in list(profile, "syscalls").iter().enumerate() {
        unknown.extend(fields(rule, 1, &format!("syscalls[{position}].")));
        for argument in list(rule, "args") {
            unknown.extend(fields(&argument, 2, &format!("syscalls[{position}].args.")));
        }
    }
    unknown
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
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
#[serde(rename_all = "camelCase")]
struct Architectures {
    architecture: Arch,
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    names: Vec<String>,
    /// Docker's older way to name one.
    name: Option<String>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    args: Option<Vec<Argument>>,
    #[serde(rename = "comment")]
    _comment: Option<IgnoredAny>,
    includes: Option<Condition>,
    excludes: Option<Condition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: usize,
    value: u64,
    value_two: Option<u64>,
    op: LinuxSeccompOperator,
}

impl Profile {
    fn check(&self) -> Result<(), Error> {
        if self.listener_path.as_ref().is_some_and(|path| !path.as_os_str().is_empty()) {
            let reason = "listenerPath names another program that is to be told of system calls; \
                          leave it out: calls of SCMP_ACT_NOTIFY are refused, counted and shown";
            return Err(Error::unsupported(FIELD, reason));
        }
        check_errno("defaultErrnoRet", self.default_errno_ret)?;
        let mut rules = self.syscalls.iter().flatten().enumerate();
        rules.try_for_each(|(position, rule)| rule.check(position))
    }
}

impl Rule {
    fn check(&self, position: usize) -> Result<(), Error> {
        let at = |field: &str| format!("syscalls[{position}].{field}");
        if self.names.is_empty() && self.name.is_none() {
            return Err(Error::invalid(FIELD, format!("{} names no system call", at("names"))));
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
        syscall.set_names(rule.names.into_iter().chain(rule.name).collect());
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
    use oci_spec::runtime::{Capability, LinuxSeccomp};

    use super::{Machine, Parsed};
    use crate::{
        kind::Kind,
        spec::{capabilities::Set, error::Error},
    };

    fn parse_for(json: &[u8], capabilities: &Set, kernel: (u32, u32)) -> Result<Parsed, Error> {
        super::parse(json, &Machine { capabilities, kernel })
    }

    fn parse(json: &[u8]) -> Result<LinuxSeccomp, Error> {
        parse_for(json, &Set::new(), (6, 1)).map(|parsed| parsed.profile)
    }

    #[test]
    fn rules_of_docker_hold_where_their_conditions_do() {
        let (own, other) =
            if cfg!(target_arch = "aarch64") { ("arm64", "amd64") } else { ("amd64", "s390x") };
        let json = |conditions: &str| {
            let conditions = conditions.replace("OWN", own).replace("OTHER", other);
            format!(
                r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
                    {{"names":["mount"],"action":"SCMP_ACT_ALLOW",{conditions}}}]}}"#
            )
        };
        let capabilities = Set::from([Capability::SysAdmin]);
        for (conditions, holds) in [
            (r#""includes":{"caps":["CAP_SYS_ADMIN"]}"#, true),
            (r#""includes":{"caps":["CAP_SYS_ADMIN","CAP_BPF"]}"#, false),
            (r#""excludes":{"caps":["CAP_SYS_ADMIN"]}"#, false),
            (r#""excludes":{"caps":["CAP_BPF"]},"includes":{}"#, true),
            (r#""includes":{"arches":["OWN"],"minKernel":"4.8"}"#, true),
            (r#""includes":{"arches":["OTHER"]}"#, false),
            (r#""includes":{"minKernel":"6.2"}"#, false),
            (r#""excludes":{"minKernel":"6.2"}"#, true),
            (r#""excludes":{"arches":["OWN"]}"#, false),
        ] {
            let parsed = parse_for(json(conditions).as_bytes(), &capabilities, (6, 1)).unwrap();
            let rules = parsed.profile.syscalls().as_ref().unwrap().len();
            assert_eq!(rules == 1, holds, "{conditions}");
        }
    }

    #[test]
    fn unknown_fields_are_passed_over_and_named() {
        let json = br#"{"defaultAction":"SCMP_ACT_LOG","archs":[],"syscalls":[
            {"names":["read"],"action":"SCMP_ACT_LOG","arg":[],
             "args":[{"index":0,"value":18446744073709551615,"op":"SCMP_CMP_EQ","x":1}]}]}"#;
        let parsed = parse_for(json, &Set::new(), (6, 1)).unwrap();
        assert_eq!(parsed.unknown, ["archs", "syscalls[0].arg", "syscalls[0].args.x"]);
        assert_eq!(parsed.profile.syscalls().as_ref().unwrap().len(), 1);
    }

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
            (rule(r#"{"names":[],"action":"SCMP_ACT_LOG"}"#), "syscalls[0].names"),
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
    fn nobody_else_is_told_of_calls() {
        let listener = r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/agent"}"#;
        assert_eq!(parse(listener.as_bytes()).unwrap_err().kind(), Kind::Unimplemented);
        let action = r#"{"defaultAction":"SCMP_ACT_ALLOW",
            "syscalls":[{"names":["mount"],"action":"SCMP_ACT_NOTIFY"}]}"#;
        parse(action.as_bytes()).unwrap();
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
