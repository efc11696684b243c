//! Compiled filters are held against an evaluation of the profile that is too simple to be
//! wrong, and against the kernel.

mod interpreter;
mod kernel;
mod naive;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompBuilder, LinuxSeccompOperator as Operator, LinuxSyscall, LinuxSyscallBuilder,
};

use super::{
    abi::{Abi, Machine},
    compile_for,
};
use crate::{spec::seccomp::default_profile, sys::seccomp::NEW_LISTENER};
use interpreter::{Call, run};
use naive::Naive;

const EDGES: [u64; 14] = [
    0,
    1,
    2,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x2_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_fffe,
    u64::MAX,
];

const OPERATORS: [Operator; 7] = [
    Operator::ScmpCmpEq,
    Operator::ScmpCmpNe,
    Operator::ScmpCmpLt,
    Operator::ScmpCmpLe,
    Operator::ScmpCmpGt,
    Operator::ScmpCmpGe,
    Operator::ScmpCmpMaskedEq,
];

const ACTIONS: [Action; 7] = [
    Action::ScmpActAllow,
    Action::ScmpActErrno,
    Action::ScmpActKillThread,
    Action::ScmpActKillProcess,
    Action::ScmpActTrap,
    Action::ScmpActTrace,
    Action::ScmpActLog,
];

const ALL_ARCHITECTURES: [Arch; 5] = [
    Arch::ScmpArchX86_64,
    Arch::ScmpArchX32,
    Arch::ScmpArchX86,
    Arch::ScmpArchAarch64,
    Arch::ScmpArchArm,
];

fn argument(index: usize, op: Operator, value: u64, value_two: u64) -> LinuxSeccompArg {
    let builder = LinuxSeccompArgBuilder::default().index(index).op(op).value(value);
    builder.value_two(value_two).build().unwrap()
}

fn rule(names: &[&str], action: Action, args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    LinuxSyscallBuilder::default().names(names).action(action).args(args).build().unwrap()
}

fn profile(default: Action, architectures: &[Arch], syscalls: Vec<LinuxSyscall>) -> LinuxSeccomp {
    LinuxSeccompBuilder::default()
        .default_action(default)
        .architectures(architectures.to_vec())
        .syscalls(syscalls)
        .build()
        .unwrap()
}

/// Every number of every ABI, with these arguments.
fn assert_same(machine: Machine, profile: &LinuxSeccomp, arguments: &[[u64; 6]]) {
    let program = compile_for(machine, profile).unwrap();
    let naive = Naive::new(machine, profile);
    let bits = [0, 0x4000_0000];
    let mut numbers: Vec<u32> =
        bits.iter().flat_map(|bit| (0..600).map(move |number| number | bit)).collect();
    numbers.extend([0x000f_0000, 0x000f_0002, 0x000f_0005, 0x000f_0009, 0x3fff_ffff, u32::MAX]);
    let audits = [0xc000_003e, 0x4000_0003, 0xc000_00b7, 0x4000_0028, 0xc000_00f3];
    for audit in audits {
        for &number in &numbers {
            for &arguments in arguments {
                let call = Call { audit, number, arguments };
                let expected = naive.expected(&call);
                assert_eq!(run(&program, &call).0, expected, "{machine:?} {call:x?} {profile:?}");
            }
        }
    }
}

#[test]
fn the_default_profile_is_compiled_faithfully() {
    let admin = [oci_spec::runtime::Capability::SysAdmin].into();
    let arguments: Vec<[u64; 6]> = [0, 8, 38, 39, 40, 41, 0x2_0008, 0x1000_0000, 0x1_0000_0026]
        .map(|first| [first, 0, 0, 0, 0, 0])
        .into();
    for capabilities in [Default::default(), admin] {
        let mut profile = default_profile(&capabilities);
        assert_same(Machine::NATIVE, &profile, &arguments);
        profile.set_architectures(Some(ALL_ARCHITECTURES.to_vec()));
        assert_same(Machine::X86_64, &profile, &arguments);
        assert_same(Machine::Aarch64, &profile, &arguments);
    }
}

#[test]
fn every_operator_on_the_edges_of_64_and_32_bits() {
    for op in OPERATORS {
        for value in EDGES {
            let syscalls = EDGES
                .iter()
                .zip(["read", "write", "open", "close", "stat", "fstat", "lstat", "poll", "lseek"])
                .map(|(&two, name)| {
                    rule(&[name], Action::ScmpActAllow, vec![argument(3, op, value, two)])
                })
                .collect();
            let profile = profile(Action::ScmpActErrno, &ALL_ARCHITECTURES, syscalls);
            let program = compile_for(Machine::X86_64, &profile).unwrap();
            let naive = Naive::new(Machine::X86_64, &profile);
            for abi in Machine::X86_64.abis() {
                for number in 0..10 {
                    for third in EDGES {
                        let number = number | abi.first();
                        let arguments = [0, 7, 7, abi.register(third), 7, 7];
                        let call = Call { audit: abi.audit(), number, arguments };
                        let expected = naive.expected(&call);
                        assert_eq!(run(&program, &call).0, expected, "{op:?} {value:x} {call:x?}");
                    }
                }
            }
        }
    }
}

/// A generator that needs no crate: the top bits of a linear congruence.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % bound
    }

    fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }
}

fn random_rule(random: &mut Random, names: &[&'static str]) -> LinuxSyscall {
    let names: Vec<&str> = (0..1 + random.below(12)).map(|_| random.pick(names)).collect();
    let arguments = (0..random.below(4))
        .map(|_| {
            let op = random.pick(&OPERATORS);
            argument(random.below(3), op, random.pick(&EDGES), random.pick(&EDGES))
        })
        .collect();
    let mut rule = rule(&names, random.pick(&ACTIONS), arguments);
    if random.below(2) == 0 {
        rule.set_errno_ret(Some(random.below(4096) as u32));
    }
    rule
}

#[test]
fn random_profiles_are_compiled_faithfully() {
    let names: Vec<&'static str> = syscalls::x86::Sysno::iter().map(|call| call.name()).collect();
    for seed in 0..40 {
        let mut random = Random(seed);
        // Few names so that calls have several rules; many so that jumps go far.
        let few = 1 + random.below(names.len());
        let rules = 1 + random.below(if seed % 4 == 0 { 100 } else { 20 });
        let syscalls = (0..rules).map(|_| random_rule(&mut random, &names[..few])).collect();
        let count = random.below(6);
        let architectures: Vec<Arch> =
            (0..count).map(|_| random.pick(&ALL_ARCHITECTURES)).collect();
        let profile = profile(random.pick(&ACTIONS), &architectures, syscalls);
        let arguments: Vec<[u64; 6]> =
            (0..3).map(|_| std::array::from_fn(|_| random.pick(&EDGES))).collect();
        assert_same(Machine::X86_64, &profile, &arguments);
        assert_same(Machine::Aarch64, &profile, &arguments);
    }
}

#[test]
fn the_default_profile_is_short_and_quick() {
    let program = compile_for(Machine::X86_64, &default_profile(&Default::default())).unwrap();
    let slowest = (0..600)
        .map(|number| {
            run(&program, &Call { audit: Abi::X86_64.audit(), number, arguments: [0; 6] }).1
        })
        .max();
    eprintln!("{} instructions, at most {slowest:?} for a call", program.len());
    assert!(program.len() < 700, "{} instructions", program.len());
    assert!(slowest < Some(40), "{slowest:?} instructions");
}

#[test]
fn what_no_filter_can_do_is_refused() {
    let arguments = vec![argument(6, Operator::ScmpCmpEq, 0, 0)];
    let rule_of_six = rule(&["read"], Action::ScmpActAllow, arguments);
    let error = super::compile(&profile(Action::ScmpActErrno, &[], vec![rule_of_six])).unwrap_err();
    assert_eq!(error.kind(), crate::kind::Kind::InvalidArgument);
    assert!(error.to_string().contains("6 is no argument"), "{error}");
    let endless = (0..4000).map(|value| {
        rule(&["read"], Action::ScmpActAllow, vec![argument(0, Operator::ScmpCmpEq, value, 0)])
    });
    let profile = profile(Action::ScmpActErrno, &[], endless.collect());
    assert!(super::compile(&profile).unwrap_err().to_string().contains("4096"));
}

#[test]
fn a_profile_that_asks_for_it_has_a_listener() {
    let notify = || vec![rule(&["mount"], Action::ScmpActNotify, vec![])];
    let flags = |default| super::compile(&profile(default, &[], notify())).unwrap().flags;
    assert_ne!(flags(Action::ScmpActAllow) & NEW_LISTENER, 0);
    let same = profile(Action::ScmpActNotify, &[], vec![]);
    assert_ne!(super::compile(&same).unwrap().flags & NEW_LISTENER, 0);
    let mount = super::Machine::NATIVE.abis()[0].number("mount").unwrap();
    let audit = super::Machine::NATIVE.abis()[0].audit();
    assert_eq!(super::name_of(audit, mount), Some("mount"));
    assert_eq!(super::name_of(audit, 1 << 20), None);
}

#[test]
fn flags_are_those_of_the_profile() {
    let mut profile = profile(Action::ScmpActAllow, &[], vec![]);
    let spec_allow = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32;
    assert_eq!(super::compile(&profile).unwrap().flags, spec_allow);
    profile.set_flags(Some(vec![]));
    assert_eq!(super::compile(&profile).unwrap().flags, 0);
    let log = oci_spec::runtime::LinuxSeccompFilterFlag::SeccompFilterFlagLog;
    profile.set_flags(Some(vec![log]));
    assert_eq!(super::compile(&profile).unwrap().flags, libc::SECCOMP_FILTER_FLAG_LOG as u32);
}
