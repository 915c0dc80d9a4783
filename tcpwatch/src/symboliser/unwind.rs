//! From a frame to its caller's, by what the compiler wrote of it (`.eh_frame`), and by nothing else: where that does not tell, the
//! stack ends, and is said to. Pure.

use gimli::{
    CfaRule, EhFrame, Encoding, EndianRcSlice, Evaluation, EvaluationResult, Expression, LittleEndian, Location,
    Register, RegisterRule, UnwindExpression, Value,
};
use tcpwatch_common::stack::REGISTER_BYTES;

use crate::input::stacks::Why;

/// The bytes of a section.
pub(super) type Section = EndianRcSlice<LittleEndian>;

/// What the architecture calls which register (its psABI's DWARF numbers, and the kernel's `struct pt_regs`).
struct Arch {
    /// The number of the stack pointer.
    sp: u16,
    /// Registers a function leaves as it found them.
    kept: &'static [u16],
    /// Words of `pt_regs`, by register number.
    words: &'static [(u16, usize)],
    /// The word of `pt_regs` that is the program counter.
    pc: usize,
    /// The number under which rules may use the program counter.
    pc_as_register: Option<u16>,
    /// The bits of a return address that are its own; others may sign it.
    address_mask: u64,
}

#[cfg(target_arch = "x86_64")]
const ARCH: Arch = Arch {
    sp: 7,
    kept: &[3, 6, 12, 13, 14, 15],
    words: &[
        (0, 10),
        (1, 12),
        (2, 11),
        (3, 5),
        (4, 13),
        (5, 14),
        (6, 4),
        (7, 19),
        (8, 9),
        (9, 8),
        (10, 7),
        (11, 6),
        (12, 3),
        (13, 2),
        (14, 1),
        (15, 0),
    ],
    pc: 16,
    pc_as_register: Some(16),
    address_mask: u64::MAX,
};

#[cfg(target_arch = "aarch64")]
const ARCH: Arch = Arch {
    sp: 31,
    kept: &[19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29],
    words: &[
        (19, 19),
        (20, 20),
        (21, 21),
        (22, 22),
        (23, 23),
        (24, 24),
        (25, 25),
        (26, 26),
        (27, 27),
        (28, 28),
        (29, 29),
        (30, 30),
        (31, 31),
    ],
    pc: 32,
    pc_as_register: None,
    address_mask: (1 << 48) - 1,
};

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("which registers a stack is unwound by is not known for this architecture");

/// More registers than any architecture's rules name here.
const REGISTERS: usize = 33;

const _: () = assert!(ARCH.pc < REGISTER_BYTES / 8 && (ARCH.sp as usize) < REGISTERS);

/// The registers in a frame, as far as they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registers {
    /// Where it is, or goes on when what it called returns.
    pub(super) pc: u64,
    values: [Option<u64>; REGISTERS],
}

impl Registers {
    /// Those the task had when it called the kernel: the words of `struct pt_regs`.
    pub(super) fn from_words(words: &[u64]) -> Self {
        let mut registers = Self {
            pc: 0,
            values: [None; REGISTERS],
        };
        for &(number, word) in ARCH.words {
            registers.values[usize::from(number)] = words.get(word).copied();
        }
        registers.go_to(words.get(ARCH.pc).copied().unwrap_or(0));
        registers
    }

    /// The stack pointer.
    pub(super) fn sp(&self) -> u64 {
        self.get(Register(ARCH.sp)).unwrap_or(0)
    }

    fn get(&self, register: Register) -> Option<u64> {
        *self.values.get(usize::from(register.0))?
    }

    fn set(&mut self, register: Register, value: Option<u64>) {
        if let Some(place) = self.values.get_mut(usize::from(register.0)) {
            *place = value;
        }
    }

    fn go_to(&mut self, pc: u64) {
        self.pc = pc;
        if let Some(number) = ARCH.pc_as_register {
            self.set(Register(number), Some(pc));
        }
    }
}

/// The piece of the stack that was copied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory<'a> {
    /// Where it begins.
    pub(super) start: u64,
    /// Its bytes.
    pub(super) bytes: &'a [u8],
}

impl Memory<'_> {
    fn word(&self, address: u64) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.start)?).ok()?;
        let bytes = self.bytes.get(at..at.checked_add(8)?)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }
}

/// How to leave a function from one place in it.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// Where its frame begins (the canonical frame address): the caller's stack pointer.
    pub(super) cfa: CfaRule<usize>,
    /// How to find the registers the caller had.
    pub(super) registers: Vec<(Register, RegisterRule<usize>)>,
    /// The register in which the return address is found.
    pub(super) return_address: Register,
    /// Whether it was not called but interrupted (by a signal), so that the caller goes on at an instruction of its own.
    pub(super) interrupts: bool,
    /// How expressions are written.
    pub(super) encoding: Encoding,
}

impl Rule {
    /// The registers in the caller of the frame that `registers` are of; `None` where nobody called it. `section` is the one the
    /// rule is from, `first` whether the frame is the innermost.
    pub(super) fn leave(
        &self,
        section: &EhFrame<Section>,
        registers: &Registers,
        memory: Memory<'_>,
        first: bool,
    ) -> Result<Option<Registers>, Why> {
        if self.rule_for(self.return_address) == Some(&RegisterRule::Undefined) {
            return Ok(None);
        }
        let resolver = RuleResolver {
            section,
            encoding: self.encoding,
            registers,
            memory,
        };
        let cfa = match &self.cfa {
            CfaRule::RegisterAndOffset { register, offset } => {
                let base = registers.get(*register).ok_or(Why::Undecided)?;
                base.wrapping_add_signed(*offset)
            }
            CfaRule::Expression(expression) => resolver.evaluate(expression, None)?,
        };
        // A stack grows downwards. A function that has not touched it yet has its caller's pointer.
        let sp = registers.sp();
        if cfa < sp || cfa == sp && !first {
            return Err(Why::Undecided);
        }
        let mut caller = Registers {
            pc: 0,
            values: [None; REGISTERS],
        };
        for &number in ARCH.kept {
            caller.set(Register(number), registers.get(Register(number)));
        }
        for (register, rule) in &self.registers {
            // A register that is not found may never be asked for.
            caller.set(*register, resolver.find(*register, rule, cfa).ok().flatten());
        }
        caller.set(Register(ARCH.sp), Some(cfa));
        let rule = self.rule_for(self.return_address).unwrap_or(&RegisterRule::SameValue);
        let back = resolver.find(self.return_address, rule, cfa)?.ok_or(Why::Undecided)? & ARCH.address_mask;
        // Nobody returns to nowhere.
        if back == 0 {
            return Ok(None);
        }
        if cfa == sp && back == registers.pc {
            return Err(Why::Undecided);
        }
        caller.go_to(back);
        Ok(Some(caller))
    }

    fn rule_for(&self, register: Register) -> Option<&RegisterRule<usize>> {
        self.registers
            .iter()
            .find_map(|(number, rule)| (*number == register).then_some(rule))
    }
}

/// What rules are followed by.
struct RuleResolver<'a> {
    section: &'a EhFrame<Section>,
    encoding: Encoding,
    registers: &'a Registers,
    memory: Memory<'a>,
}

impl RuleResolver<'_> {
    /// The value the caller had in `register`; `None` where it is lost.
    fn find(&self, register: Register, rule: &RegisterRule<usize>, cfa: u64) -> Result<Option<u64>, Why> {
        Ok(match rule {
            RegisterRule::Undefined => None,
            RegisterRule::SameValue => self.registers.get(register),
            RegisterRule::Offset(offset) => Some(self.word(cfa.wrapping_add_signed(*offset))?),
            RegisterRule::ValOffset(offset) => Some(cfa.wrapping_add_signed(*offset)),
            RegisterRule::Register(other) => self.registers.get(*other),
            RegisterRule::Expression(expression) => Some(self.word(self.evaluate(expression, Some(cfa))?)?),
            RegisterRule::ValExpression(expression) => Some(self.evaluate(expression, Some(cfa))?),
            RegisterRule::Constant(value) => Some(*value),
            RegisterRule::Architectural => return Err(Why::Undecided),
        })
    }

    fn word(&self, address: u64) -> Result<u64, Why> {
        self.memory.word(address).ok_or(Why::CopyEnded)
    }

    /// What an expression gives, with `initial` on its stack.
    fn evaluate(&self, expression: &UnwindExpression<usize>, initial: Option<u64>) -> Result<u64, Why> {
        /// Longer than any that a compiler writes.
        const STEPS: u32 = 1000;
        let broken = |_| Why::Undecided;
        let Expression(bytecode) = expression.get(self.section).map_err(broken)?;
        let mut evaluation = Evaluation::new(bytecode, self.encoding);
        evaluation.set_max_iterations(STEPS);
        if let Some(value) = initial {
            evaluation.set_initial_value(value);
        }
        let mut result = evaluation.evaluate().map_err(broken)?;
        loop {
            result = match result {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = self.registers.get(register).ok_or(Why::Undecided)?;
                    evaluation.resume_with_register(Value::Generic(value)).map_err(broken)?
                }
                EvaluationResult::RequiresMemory { address, size: 8, .. } => {
                    let value = self.word(address)?;
                    evaluation.resume_with_memory(Value::Generic(value)).map_err(broken)?
                }
                _ => return Err(Why::Undecided),
            };
        }
        match evaluation.as_result() {
            [piece] => match piece.location {
                Location::Address { address } => Ok(address),
                _ => Err(Why::Undecided),
            },
            _ => Err(Why::Undecided),
        }
    }
}
