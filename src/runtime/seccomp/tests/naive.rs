//! What a profile means, rule by rule and without any cleverness.

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompOperator as Operator,
};

use super::{
    super::abi::{Abi, Machine},
    Call,
};

impl Abi {
    /// A value as a register of this ABI holds it.
    pub(super) fn register(self, value: u64) -> u64 {
        if matches!(self, Abi::I386 | Abi::Arm) { u64::from(value as u32) } else { value }
    }
}

/// A profile, with the numbers of its names on each ABI looked up.
pub(super) struct Naive<'a> {
    machine: Machine,
    profile: &'a LinuxSeccomp,
    numbers: Vec<(Abi, Vec<Vec<u32>>)>,
}

impl<'a> Naive<'a> {
    pub(super) fn new(machine: Machine, profile: &'a LinuxSeccomp) -> Self {
        let rules = || profile.syscalls().iter().flatten();
        let numbers_of = |abi: Abi| {
            rules()
                .map(|rule| rule.names().iter().filter_map(|n| abi.number(n)).collect())
                .collect()
        };
        let numbers = machine.abis().iter().map(|&abi| (abi, numbers_of(abi))).collect();
        Self { machine, profile, numbers }
    }

    fn abi_of(&self, call: &Call) -> Option<Abi> {
        let is_x32 = call.number & 0x4000_0000 != 0 && call.number != u32::MAX;
        let abi = match (self.machine, call.audit) {
            (Machine::X86_64, 0xc000_003e) if is_x32 => Abi::X32,
            (Machine::X86_64, 0xc000_003e) => Abi::X86_64,
            (Machine::X86_64, 0x4000_0003) => Abi::I386,
            (Machine::Aarch64, 0xc000_00b7) => Abi::Aarch64,
            (Machine::Aarch64, 0x4000_0028) => Abi::Arm,
            _ => return None,
        };
        self.is_listed(abi).then_some(abi)
    }

    fn is_listed(&self, abi: Abi) -> bool {
        let architectures = self.profile.architectures().as_deref().unwrap_or_default();
        abi == self.machine.abis()[0] || architectures.contains(&abi.arch())
    }

    pub(super) fn expected(&self, call: &Call) -> u32 {
        let profile = self.profile;
        let Some(abi) = self.abi_of(call) else { return 0x8000_0000 };
        let (_, numbers) = self.numbers.iter().find(|(known, _)| *known == abi).unwrap();
        for (rule, numbers) in profile.syscalls().iter().flatten().zip(numbers) {
            if numbers.contains(&call.number) && fits(abi, rule.args().as_deref(), call) {
                return verdict(rule.action(), rule.errno_ret());
            }
        }
        let permissive = [Action::ScmpActAllow, Action::ScmpActLog, Action::ScmpActTrace];
        if permissive.contains(&profile.default_action()) || !self.is_unknown(abi, call, numbers) {
            return verdict(profile.default_action(), profile.default_errno_ret());
        }
        0x0005_0000 | 38
    }

    /// Whether the call is newer than the profile.
    fn is_unknown(&self, abi: Abi, call: &Call, numbers: &[Vec<u32>]) -> bool {
        let apart = |number: u32| match abi {
            Abi::X32 => (0x4000_0200..0x4000_0224).contains(&number),
            Abi::Arm => (0xf0000..0xf0007).contains(&number),
            _ => false,
        };
        // A call that a tracer took back has number -1, which is no call of x32.
        let taken_back = call.number == u32::MAX && abi == Abi::X86_64;
        if apart(call.number) || taken_back && !self.is_listed(Abi::X32) {
            return false;
        }
        let newest = numbers.iter().flatten().copied().filter(|&number| !apart(number)).max();
        newest.is_some_and(|newest| call.number > newest)
    }
}

fn fits(abi: Abi, arguments: Option<&[LinuxSeccompArg]>, call: &Call) -> bool {
    let arguments = arguments.unwrap_or_default();
    let holds = |argument: &LinuxSeccompArg| {
        let register = abi.register(call.arguments[argument.index()]);
        let value = abi.register(argument.value());
        match argument.op() {
            Operator::ScmpCmpEq => register == value,
            Operator::ScmpCmpNe => register != value,
            Operator::ScmpCmpLt => register < value,
            Operator::ScmpCmpLe => register <= value,
            Operator::ScmpCmpGt => register > value,
            Operator::ScmpCmpGe => register >= value,
            Operator::ScmpCmpMaskedEq => {
                register & value == abi.register(argument.value_two().unwrap_or(0))
            }
        }
    };
    let twice = (0..6).any(|index| arguments.iter().filter(|a| a.index() == index).count() > 1);
    if twice { arguments.iter().any(holds) } else { arguments.iter().all(holds) }
}

fn verdict(action: Action, errno: Option<u32>) -> u32 {
    match action {
        Action::ScmpActKill | Action::ScmpActKillThread => 0,
        Action::ScmpActKillProcess => 0x8000_0000,
        Action::ScmpActTrap => 0x0003_0000,
        Action::ScmpActErrno => 0x0005_0000 | errno.unwrap_or(1),
        Action::ScmpActTrace => 0x7ff0_0000 | errno.unwrap_or(1),
        Action::ScmpActLog => 0x7ffc_0000,
        Action::ScmpActAllow => 0x7fff_0000,
        Action::ScmpActNotify => unreachable!(),
    }
}
