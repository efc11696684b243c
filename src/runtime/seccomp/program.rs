//! From tables to instructions of classic BPF.
//!
//! A jump goes forward only, and a conditional one at most 255 instructions far. So the program
//! is written from its end to its beginning: where a jump goes is known when it is written,
//! and what is too far gets a stepping stone right behind the jump.

use std::collections::HashMap;

use super::rules::{Condition, Outcome, Table, Test, Verdict};
use crate::sys::seccomp::Instruction;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Of `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// How far a conditional jump goes; a little less than the kernel allows, since the stepping
/// stones of the jump itself come in between.
const REACH: usize = 250;

/// The program for these tables. What belongs to none of them is killed.
pub(super) fn assemble(tables: &[Table]) -> Vec<Instruction> {
    let mut program = Assembler::default();
    let mut next = Target::Return(libc::SECCOMP_RET_KILL_PROCESS);
    // The native one comes last here, so that it is asked for first.
    for table in tables.iter().rev() {
        let outcomes: Vec<(u32, Target)> = table
            .ranges
            .iter()
            .map(|(start, outcome)| (*start, program.outcome(outcome)))
            .collect();
        let found = program.search(&outcomes);
        let found = program.load(NUMBER, found);
        next = program.branch(IF_EQUAL, table.audit, found, next);
    }
    program.load(ARCHITECTURE, next);
    program.finish()
}

/// Where a jump goes.
#[derive(Debug, Clone, Copy)]
enum Target {
    /// To the end of the filter.
    Return(Verdict),
    /// To an instruction, by its place in the reversed program.
    At(usize),
}

/// A program that grows from its end to its beginning.
#[derive(Default)]
struct Assembler {
    reversed: Vec<Instruction>,
    /// The return of each verdict that was written last.
    returns: HashMap<Verdict, usize>,
    /// Chains of rules that were written before; ABIs share them.
    chains: HashMap<Outcome, Target>,
}

impl Assembler {
    fn push(&mut self, code: u16, operand: u32, jump_true: u8, jump_false: u8) -> usize {
        self.reversed.push(Instruction { code, jump_true, jump_false, operand });
        self.reversed.len() - 1
    }

    /// The instructions from the next one that is written to the one at `position`.
    fn distance(&self, position: usize) -> usize {
        self.reversed.len() - position - 1
    }

    /// A place for the target that the next conditional jump can reach.
    fn near(&mut self, target: Target) -> usize {
        match target {
            Target::At(position) if self.distance(position) <= REACH => position,
            Target::At(position) => self.push(JUMP, self.distance(position) as u32, 0, 0),
            Target::Return(verdict) => {
                let written = self.returns.get(&verdict).copied();
                if let Some(position) = written.filter(|&p| self.distance(p) <= REACH) {
                    return position;
                }
                let position = self.push(RETURN, verdict, 0, 0);
                self.returns.insert(verdict, position);
                position
            }
        }
    }

    fn branch(&mut self, code: u16, operand: u32, if_true: Target, if_false: Target) -> Target {
        let if_true = self.near(if_true);
        let if_false = self.near(if_false);
        let jump_true = self.distance(if_true) as u8;
        let jump_false = self.distance(if_false) as u8;
        Target::At(self.push(code, operand, jump_true, jump_false))
    }

    /// Makes the target the instruction that comes next in the program.
    fn adjoin(&mut self, target: Target) {
        let position = self.near(target);
        match self.distance(position) {
            0 => {}
            distance => {
                self.push(JUMP, distance as u32, 0, 0);
            }
        }
    }

    fn load(&mut self, offset: u32, then: Target) -> Target {
        self.adjoin(then);
        Target::At(self.push(LOAD, offset, 0, 0))
    }

    fn and(&mut self, mask: u32, then: Target) -> Target {
        self.adjoin(then);
        Target::At(self.push(AND, mask, 0, 0))
    }

    /// Finds the range that the loaded number is in.
    fn search(&mut self, ranges: &[(u32, Target)]) -> Target {
        let middle = ranges.len() / 2;
        if middle == 0 {
            return ranges
                .first()
                .map_or(Target::Return(libc::SECCOMP_RET_KILL_PROCESS), |range| range.1);
        }
        let (lower, upper) = ranges.split_at(middle);
        let start = upper[0].0;
        let upper = self.search(upper);
        let lower = self.search(lower);
        self.branch(IF_AT_LEAST, start, upper, lower)
    }

    fn outcome(&mut self, outcome: &Outcome) -> Target {
        let (rules, otherwise) = match outcome {
            Outcome::Always(verdict) => return Target::Return(*verdict),
            Outcome::Depends { rules, otherwise } => (rules, otherwise),
        };
        if let Some(target) = self.chains.get(outcome) {
            return *target;
        }
        let mut next = Target::Return(*otherwise);
        for (conditions, verdict) in rules.iter().rev() {
            let mut matched = Target::Return(*verdict);
            for condition in conditions.iter().rev() {
                matched = self.condition(condition, matched, next);
            }
            next = matched;
        }
        self.chains.insert(outcome.clone(), next);
        next
    }

    fn condition(&mut self, condition: &Condition, yes: Target, no: Target) -> Target {
        match condition.test {
            Test::Masked(mask) => self.masked(condition, mask, yes, no),
            Test::NotMasked(mask) => self.masked(condition, mask, no, yes),
            Test::Greater => self.ordered(condition, IF_GREATER, yes, no),
            Test::AtMost => self.ordered(condition, IF_GREATER, no, yes),
            Test::AtLeast => self.ordered(condition, IF_AT_LEAST, yes, no),
            Test::Less => self.ordered(condition, IF_AT_LEAST, no, yes),
        }
    }

    fn masked(&mut self, condition: &Condition, mask: u64, yes: Target, no: Target) -> Target {
        let (offsets, value) = (halves_of(condition.index), split(condition.value));
        let mask = split(mask);
        let low = self.masked_half(offsets.low, mask.low, value.low, yes, no);
        self.masked_half(offsets.high, mask.high, value.high, low, no)
    }

    fn masked_half(
        &mut self,
        offset: u32,
        mask: u32,
        value: u32,
        yes: Target,
        no: Target,
    ) -> Target {
        if mask == 0 {
            return if value == 0 { yes } else { no };
        }
        let compared = self.branch(IF_EQUAL, value, yes, no);
        let masked = if mask == u32::MAX { compared } else { self.and(mask, compared) };
        self.load(offset, masked)
    }

    /// `code` compares the lower halves; the upper ones decide unless they are equal.
    fn ordered(&mut self, condition: &Condition, code: u16, yes: Target, no: Target) -> Target {
        let (offsets, value) = (halves_of(condition.index), split(condition.value));
        let low = self.branch(code, value.low, yes, no);
        let low = self.load(offsets.low, low);
        if condition.short {
            return low;
        }
        let equal = self.branch(IF_EQUAL, value.high, low, no);
        let high = self.branch(IF_GREATER, value.high, yes, equal);
        self.load(offsets.high, high)
    }

    fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }
}

/// The two halves of 64 bits, which is how BPF sees them.
struct Halves {
    low: u32,
    high: u32,
}

fn split(value: u64) -> Halves {
    Halves { low: value as u32, high: (value >> 32) as u32 }
}

/// Where the halves of an argument are.
fn halves_of(index: u32) -> Halves {
    let offset = ARGUMENTS + 8 * index;
    if cfg!(target_endian = "little") {
        Halves { low: offset, high: offset + 4 }
    } else {
        Halves { low: offset + 4, high: offset }
    }
}
