//! From a copy of a stack to the addresses that called each other. Pure.

use std::rc::Rc;

use super::unwind::{Memory, Registers};
use super::unwinding::Program;
use super::wire::{Copied, Place, Walked};
use crate::input::stacks::Why;

/// Frames that are followed at most.
pub(super) const FRAMES_MAX: usize = 256;

/// A file at an address: its number, what is known of it, and how far it is from the addresses its symbols have.
pub(super) type Mapped = (u32, Rc<Program>, u64);

/// Follows `copied` from its innermost frame on; `mapped` finds the file that is mapped at an address.
pub(super) fn walk(copied: &Copied, mapped: &mut dyn FnMut(u64) -> Result<Mapped, Why>) -> Walked {
    let mut places = Vec::new();
    let finished = follow(copied, mapped, &mut places);
    Walked { places, finished }
}

fn follow(
    copied: &Copied,
    mapped: &mut dyn FnMut(u64) -> Result<Mapped, Why>,
    places: &mut Vec<Place>,
) -> Result<(), Why> {
    let mut registers = Registers::from_words(&copied.registers);
    let memory = Memory {
        start: registers.sp(),
        bytes: &copied.stack,
    };
    // The innermost frame is at an instruction, the others are where a call returns to, which may be past its function's end.
    let mut exact = true;
    while places.len() < FRAMES_MAX {
        let address = registers.pc.wrapping_sub(u64::from(!exact));
        let (file, program, bias) = mapped(address).inspect_err(|why| {
            if *why != Why::Undecided {
                places.push(Place::Anonymous(address));
            }
        })?;
        let in_file = address.wrapping_sub(bias);
        places.push(Place::File(file, in_file));
        let (rule, section) = program.rule(in_file)?;
        let Some(caller) = rule.leave(section, &registers, memory, places.len() == 1)? else {
            return Ok(());
        };
        registers = caller;
        exact = rule.interrupts;
    }
    Err(Why::TooDeep)
}
