//! From a profile to what becomes of each system call number.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};

use super::abi::{Abi, Machine, X32_BIT};
use crate::runtime::error::Error;

/// `SECCOMP_RET_*` with its data.
pub(super) type Verdict = u32;

/// What the default action is where a profile says nothing else.
const EPERM: u32 = libc::EPERM as u32;
/// The largest number that the kernel returns as an error.
const MAX_ERRNO: u32 = 4095;

/// Everything about one audit architecture.
#[derive(Debug)]
pub(super) struct Table {
    /// `AUDIT_ARCH_*`.
    pub audit: u32,
    /// Where each run of numbers with one outcome begins. The first begins at 0.
    pub ranges: Vec<(u32, Outcome)>,
}

/// What becomes of a system call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    /// The same always.
    Always(Verdict),
    /// The verdict of the first rule whose conditions all hold.
    Depends {
        /// In their order.
        rules: Vec<(Vec<Condition>, Verdict)>,
        /// When none fits.
        otherwise: Verdict,
    },
}

/// A comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Condition {
    /// Which argument, 0 to 5.
    pub index: u32,
    /// How it is compared.
    pub test: Test,
    /// What it is compared with.
    pub value: u64,
    /// Whether only its lower half has a meaning.
    pub short: bool,
}

/// The comparisons; those that are missing are these with the outcome turned round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Test {
    /// The bits of the mask equal those of the value.
    Masked(u64),
    /// They do not.
    NotMasked(u64),
    /// Greater.
    Greater,
    /// Greater or equal.
    AtLeast,
    /// Less.
    Less,
    /// Less or equal.
    AtMost,
}

/// The tables of all ABIs that the profile lists; those that it does not list are killed.
pub(super) fn tables(machine: Machine, seccomp: &LinuxSeccomp) -> Result<Vec<Table>, Error> {
    let native = machine.abis()[0];
    let listed = |abi: Abi| {
        abi == native || seccomp.architectures().iter().flatten().any(|arch| *arch == abi.arch())
    };
    let default = verdict(seccomp.default_action(), seccomp.default_errno_ret())?;
    let mut tables: Vec<Table> = Vec::new();
    for &abi in machine.abis() {
        let ranges = match (abi, listed(abi)) {
            (_, true) => ranges(abi, seccomp, default)?,
            // Number -1 is not a call of x32 but one that a tracer took back.
            (Abi::X32, false) => vec![
                (X32_BIT, Outcome::Always(libc::SECCOMP_RET_KILL_PROCESS)),
                (u32::MAX, Outcome::Always(default)),
            ],
            (_, false) => continue,
        };
        match tables.last_mut() {
            // x32 comes after x86-64 and numbers its calls above it.
            Some(table) if table.audit == abi.audit() => table.ranges.extend(ranges),
            _ => tables.push(Table { audit: abi.audit(), ranges }),
        }
    }
    for table in &mut tables {
        table.ranges.dedup_by(|next, previous| next.1 == previous.1);
    }
    Ok(tables)
}

/// The runs of numbers of one ABI. All that its calls and gaps can begin at is looked up.
fn ranges(
    abi: Abi,
    seccomp: &LinuxSeccomp,
    default: Verdict,
) -> Result<Vec<(u32, Outcome)>, Error> {
    let calls = calls(abi, seccomp)?;
    let apart = abi.out_of_turn();
    let newest = calls.keys().copied().rfind(|number| !apart.contains(number));
    let unknown = if is_permissive(seccomp.default_action()) {
        default
    } else {
        libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32
    };
    // A profile that names no call says nothing of its age.
    let is_known =
        |number: u32| apart.contains(&number) || newest.is_none_or(|newest| number <= newest);
    let mut starts = vec![abi.first(), apart.start, apart.end];
    starts.extend(newest.map(|newest| newest + 1));
    starts.extend(calls.keys().flat_map(|&number| [number, number + 1]));
    starts.retain(|&start| start >= abi.first());
    starts.sort_unstable();
    starts.dedup();
    let outcome = |start: &u32| match calls.get(start) {
        Some(rules) => outcome(rules, default),
        None => Outcome::Always(if is_known(*start) { default } else { unknown }),
    };
    Ok(starts.iter().map(|start| (*start, outcome(start))).collect())
}

/// The conditions of a rule, and what follows when all of them hold.
type Rule = (Vec<Condition>, Verdict);

/// The rules of each system call, in their order.
fn calls(abi: Abi, seccomp: &LinuxSeccomp) -> Result<BTreeMap<u32, Vec<Rule>>, Error> {
    let mut calls: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    for (position, syscall) in seccomp.syscalls().iter().flatten().enumerate() {
        let verdict = verdict(syscall.action(), syscall.errno_ret())?;
        let rules = alternatives(abi, position, syscall)?;
        for number in syscall.names().iter().filter_map(|name| abi.number(name)) {
            let known = calls.entry(number).or_default();
            known.extend(rules.iter().map(|conditions| (conditions.clone(), verdict)));
        }
    }
    Ok(calls)
}

/// One set of conditions, or one for each condition where two are on the same argument.
fn alternatives(
    abi: Abi,
    position: usize,
    syscall: &LinuxSyscall,
) -> Result<Vec<Vec<Condition>>, Error> {
    let conditions: Vec<Condition> = syscall
        .args()
        .iter()
        .flatten()
        .map(|argument| condition(abi, position, argument))
        .collect::<Result<_, _>>()?;
    let mut indexes: Vec<u32> = conditions.iter().map(|condition| condition.index).collect();
    indexes.sort_unstable();
    indexes.dedup();
    if indexes.len() == conditions.len() {
        return Ok(vec![conditions]);
    }
    Ok(conditions.into_iter().map(|condition| vec![condition]).collect())
}

fn condition(abi: Abi, position: usize, argument: &LinuxSeccompArg) -> Result<Condition, Error> {
    let index = u32::try_from(argument.index()).ok().filter(|index| *index < 6);
    let index = index.ok_or_else(|| {
        let reason = format!("{} is no argument; they are 0 to 5", argument.index());
        Error::spec(format!("linux.seccomp.syscalls[{position}].args.index"), reason)
    })?;
    let short = abi.has_short_arguments();
    let all = if short { u64::from(u32::MAX) } else { u64::MAX };
    let value = argument.value() & all;
    let (test, value) = match argument.op() {
        LinuxSeccompOperator::ScmpCmpEq => (Test::Masked(all), value),
        LinuxSeccompOperator::ScmpCmpNe => (Test::NotMasked(all), value),
        LinuxSeccompOperator::ScmpCmpLt => (Test::Less, value),
        LinuxSeccompOperator::ScmpCmpLe => (Test::AtMost, value),
        LinuxSeccompOperator::ScmpCmpGt => (Test::Greater, value),
        LinuxSeccompOperator::ScmpCmpGe => (Test::AtLeast, value),
        // The first value is the mask.
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            (Test::Masked(value), argument.value_two().unwrap_or(0) & all)
        }
    };
    Ok(Condition { index, test, value, short })
}

/// Leaves out what cannot be reached and what changes nothing.
fn outcome(rules: &[Rule], default: Verdict) -> Outcome {
    let unconditional = rules.iter().position(|(conditions, _)| conditions.is_empty());
    let (rules, otherwise) = match unconditional {
        Some(position) => (&rules[..position], rules[position].1),
        None => (rules, default),
    };
    let last = rules.iter().rposition(|(_, verdict)| *verdict != otherwise);
    match last {
        None => Outcome::Always(otherwise),
        Some(last) => Outcome::Depends { rules: rules[..=last].to_vec(), otherwise },
    }
}

fn verdict(action: LinuxSeccompAction, errno: Option<u32>) -> Result<Verdict, Error> {
    let errno = errno.unwrap_or(EPERM);
    let has_errno =
        matches!(action, LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace);
    if has_errno && errno > MAX_ERRNO {
        let reason = format!("{errno} is no error number; the largest is {MAX_ERRNO}");
        return Err(Error::spec("linux.seccomp.errnoRet", reason));
    }
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            libc::SECCOMP_RET_KILL_THREAD
        }
        LinuxSeccompAction::ScmpActKillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => libc::SECCOMP_RET_TRAP,
        LinuxSeccompAction::ScmpActErrno => libc::SECCOMP_RET_ERRNO | errno,
        LinuxSeccompAction::ScmpActTrace => libc::SECCOMP_RET_TRACE | errno,
        LinuxSeccompAction::ScmpActLog => libc::SECCOMP_RET_LOG,
        LinuxSeccompAction::ScmpActAllow => libc::SECCOMP_RET_ALLOW,
        LinuxSeccompAction::ScmpActNotify => libc::SECCOMP_RET_USER_NOTIF,
    })
}

/// Whether system calls that the profile could not foresee run. A tracer counts as one that
/// knows what it does.
fn is_permissive(default: LinuxSeccompAction) -> bool {
    matches!(
        default,
        LinuxSeccompAction::ScmpActAllow
            | LinuxSeccompAction::ScmpActLog
            | LinuxSeccompAction::ScmpActTrace
    )
}
