//! Runs the instructions that the compiler emits, with the checks of the kernel.

use crate::sys::seccomp::Instruction;

/// `struct seccomp_data` without the instruction pointer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) audit: u32,
    pub(super) number: u32,
    pub(super) arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.audit,
            16..64 if offset.is_multiple_of(4) => {
                let argument = self.arguments[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
            }
            _ => panic!("no word at {offset}"),
        }
    }
}

/// What the filter returns, and after how many instructions.
pub(super) fn run(program: &[Instruction], call: &Call) -> (u32, usize) {
    let (mut accumulator, mut counter, mut steps) = (0, 0, 0);
    loop {
        let instruction = program[counter];
        let operand = instruction.operand;
        steps += 1;
        counter += 1;
        let jump = |holds: bool| {
            usize::from(if holds { instruction.jump_true } else { instruction.jump_false })
        };
        match instruction.code {
            0x20 => accumulator = call.word(operand),
            0x54 => accumulator &= operand,
            0x05 => counter += operand as usize,
            0x15 => counter += jump(accumulator == operand),
            0x25 => counter += jump(accumulator > operand),
            0x35 => counter += jump(accumulator >= operand),
            0x06 => return (operand, steps),
            code => panic!("instruction {code:x}"),
        }
    }
}
