//! Which devices the processes of a cgroup may make and open.
//!
//! The rules of a spec are a list in which the last one that matches decides. v1 takes them
//! in that order; for v2 they become an eBPF program that asks them from the last to the
//! first (kernel, `bpf_cgroup_dev_ctx`).

use std::os::fd::AsFd;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::{
    super::error::{During, Error},
    v1, v2, write as write_file,
};
use crate::sys::bpf::{self, Instruction};

pub(super) fn write(cgroup: &v1::Cgroup, rules: &[LinuxDeviceCgroup]) -> Result<(), Error> {
    for rule in rules {
        let file = if rule.allow() { "devices.allow" } else { "devices.deny" };
        let path = cgroup.file("devices", file);
        let rule = line_of(rule);
        write_file(&path, &rule).during("write", format!("{rule:?} to {}", path.display()))?;
    }
    Ok(())
}

/// `type major:minor access`, or `a` for everything.
fn line_of(rule: &LinuxDeviceCgroup) -> String {
    let kind = letter(rule.typ());
    if kind == 'a' && rule.major().is_none() && rule.minor().is_none() {
        return "a".to_owned();
    }
    let number = |n: Option<i64>| n.map_or("*".to_owned(), |n| n.to_string());
    let access = rule.access().as_deref().unwrap_or("rwm");
    format!("{kind} {}:{} {access}", number(rule.major()), number(rule.minor()))
}

fn letter(kind: Option<LinuxDeviceType>) -> char {
    match kind.unwrap_or(LinuxDeviceType::A) {
        LinuxDeviceType::B => 'b',
        LinuxDeviceType::C | LinuxDeviceType::U => 'c',
        LinuxDeviceType::P => 'p',
        LinuxDeviceType::A => 'a',
    }
}

pub(super) fn attach(cgroup: &v2::Cgroup, rules: &[LinuxDeviceCgroup]) -> Result<(), Error> {
    let object = cgroup.path().display();
    let program =
        bpf::load_device_filter(&compile(rules)).during("load device filter of", object)?;
    let object = cgroup.path().display();
    bpf::attach_device_filter(cgroup.directory(), program.as_fd())
        .during("attach device filter to", object)
}

const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;

// Registers of the program: r1 is the context, r2 type, r3 access, r4 major, r5 minor.
const LOAD_WORD: u8 = 0x61;
const MOVE_REGISTER: u8 = 0xbc;
const MOVE_VALUE: u8 = 0xb7;
const AND_VALUE: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5d;
const EXIT: u8 = 0x95;

fn op(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: source << 4 | destination, offset, immediate }
}

/// The program: 1 allows, 0 denies.
fn compile(rules: &[LinuxDeviceCgroup]) -> Vec<Instruction> {
    let mut program = vec![
        op(LOAD_WORD, 2, 1, 0, 0),
        op(AND_VALUE, 2, 0, 0, 0xffff),
        op(LOAD_WORD, 3, 1, 0, 0),
        op(SHIFT_RIGHT, 3, 0, 0, 16),
        op(LOAD_WORD, 4, 1, 4, 0),
        op(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let block = block_of(rule);
        let always = !block.iter().any(is_jump);
        program.extend(block);
        if always {
            // This rule decides whatever is left. The kernel refuses a program with
            // instructions that nothing leads to.
            return program;
        }
    }
    program.extend([op(MOVE_VALUE, 0, 0, 0, 0), op(EXIT, 0, 0, 0, 0)]);
    program
}

/// Instructions that end the program where the rule matches and else fall through.
fn block_of(rule: &LinuxDeviceCgroup) -> Vec<Instruction> {
    let mut tests: Vec<Vec<Instruction>> = Vec::new();
    match letter(rule.typ()) {
        'b' => tests.push(vec![op(JUMP_NOT_EQUAL, 2, 0, 0, 1)]),
        'c' => tests.push(vec![op(JUMP_NOT_EQUAL, 2, 0, 0, 2)]),
        _ => {}
    }
    let mask = access_mask(rule.access().as_deref());
    if mask != ACCESS_MKNOD | ACCESS_READ | ACCESS_WRITE {
        tests.push(access_test(rule.allow(), mask));
    }
    for (register, number) in [(4, rule.major()), (5, rule.minor())] {
        if let Some(number) = number.filter(|&n| n >= 0) {
            tests.push(vec![op(JUMP_NOT_EQUAL, register, 0, 0, number as i32)]);
        }
    }
    let verdict = [op(MOVE_VALUE, 0, 0, 0, i32::from(rule.allow())), op(EXIT, 0, 0, 0, 0)];
    let mut block: Vec<Instruction> = tests.concat();
    let end = block.len() + verdict.len();
    for (at, instruction) in block.iter_mut().enumerate() {
        if is_jump(instruction) {
            instruction.offset = (end - at - 1) as i16;
        }
    }
    block.extend(verdict);
    block
}

/// Whether the instruction leaves the block of a rule that does not match.
fn is_jump(instruction: &Instruction) -> bool {
    matches!(instruction.code, JUMP_NOT_EQUAL | JUMP_NOT_EQUAL_REGISTER)
}

/// A rule that allows matches where all that is asked for is in it; one that denies where any
/// of it is.
fn access_test(allow: bool, mask: i32) -> Vec<Instruction> {
    if allow {
        vec![
            op(MOVE_REGISTER, 1, 3, 0, 0),
            op(AND_VALUE, 1, 0, 0, mask),
            op(JUMP_NOT_EQUAL_REGISTER, 1, 3, 0, 0),
        ]
    } else {
        // A jump over the next instruction where something is asked for that is denied.
        let skip = Instruction { code: 0x55, registers: 1, offset: 0, immediate: 0 };
        vec![
            op(MOVE_REGISTER, 1, 3, 0, 0),
            op(AND_VALUE, 1, 0, 0, mask),
            op(MOVE_VALUE, 0, 0, 0, 0),
            // r0 = 1 where the remainder is 0, which then leaves the block below.
            Instruction { code: 0x56, offset: 1, ..skip },
            op(MOVE_VALUE, 0, 0, 0, 1),
            op(JUMP_NOT_EQUAL, 0, 0, 0, 0),
        ]
    }
}

fn access_mask(access: Option<&str>) -> i32 {
    access.unwrap_or("rwm").chars().fold(0, |mask, letter| {
        mask | match letter {
            'r' => ACCESS_READ,
            'w' => ACCESS_WRITE,
            'm' => ACCESS_MKNOD,
            _ => 0,
        }
    })
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType};

    use super::{compile, line_of};
    use crate::sys::bpf::{self, Instruction};

    fn rule(
        allow: bool,
        kind: LinuxDeviceType,
        number: Option<(i64, i64)>,
        access: &str,
    ) -> LinuxDeviceCgroup {
        let mut rule = LinuxDeviceCgroupBuilder::default().allow(allow).typ(kind).access(access);
        if let Some((major, minor)) = number {
            rule = rule.major(major).minor(minor);
        }
        rule.build().unwrap()
    }

    /// What the kernel would do, for the instructions that we emit.
    fn run(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> u64 {
        let mut r = [0_u64; 11];
        let context = [u64::from(access << 16 | kind), u64::from(major), u64::from(minor)];
        let mut at = 0;
        loop {
            let i = program[at];
            let (d, s) = ((i.registers & 15) as usize, (i.registers >> 4) as usize);
            at += 1;
            match i.code {
                0x61 => r[d] = context[i.offset as usize / 4],
                0xbc => r[d] = r[s] & 0xffff_ffff,
                0xb7 => r[d] = i.immediate as u64,
                0x54 => r[d] = (r[d] & i.immediate as u64) & 0xffff_ffff,
                0x74 => r[d] >>= i.immediate,
                0x55 | 0x56 if r[d] != i.immediate as u64 => at += i.offset as usize,
                0x5d if r[d] != r[s] => at += i.offset as usize,
                0x55 | 0x56 | 0x5d => {}
                0x95 => return r[0],
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn the_last_rule_that_matches_decides() {
        let rules = [
            rule(false, LinuxDeviceType::A, None, "rwm"),
            rule(true, LinuxDeviceType::C, None, "m"),
            rule(true, LinuxDeviceType::C, Some((1, 3)), "rwm"),
            rule(true, LinuxDeviceType::B, Some((8, 0)), "r"),
            rule(true, LinuxDeviceType::C, Some((10, 229)), "rw"),
            rule(false, LinuxDeviceType::C, Some((10, 229)), "w"),
        ];
        let program = compile(&rules);
        let (block, character) = (1, 2);
        let (mknod, read, write) = (1, 2, 4);
        for (kind, access, major, minor, allowed) in [
            (character, read | write, 1, 3, 1),
            (character, read, 1, 4, 0),
            (character, mknod, 99, 99, 1),
            (block, mknod, 99, 99, 0),
            (block, read, 8, 0, 1),
            (block, read | write, 8, 0, 0),
            (character, read, 8, 0, 0),
            (character, read, 10, 229, 1),
            (character, write, 10, 229, 0),
            (character, read | write, 10, 229, 0),
        ] {
            let verdict = run(&program, kind, access, major, minor);
            assert_eq!(verdict, allowed, "{kind} {access} {major}:{minor}");
        }
    }

    #[test]
    fn the_kernel_takes_rules_that_always_match() {
        for allow in [true, false] {
            let rules = [
                rule(false, LinuxDeviceType::A, None, "rwm"),
                rule(allow, LinuxDeviceType::A, None, "rwm"),
                rule(true, LinuxDeviceType::C, Some((1, 3)), "rwm"),
            ];
            match bpf::load_device_filter(&compile(&rules)) {
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    eprintln!("SKIPPED: loading a device filter needs CAP_BPF");
                }
                result => drop(result.unwrap()),
            }
        }
    }

    #[test]
    fn v1_lines() {
        let all = rule(false, LinuxDeviceType::A, None, "rwm");
        assert_eq!(line_of(&all), "a");
        assert_eq!(line_of(&rule(true, LinuxDeviceType::C, Some((1, 3)), "rw")), "c 1:3 rw");
        assert_eq!(line_of(&rule(true, LinuxDeviceType::C, None, "m")), "c *:* m");
    }
}
