//! ELF files, and stacks that are unwound by what they say: each frame is above the one before, so it ends.
//!
//! The input has the length of the stack, the registers, the stack and then the file.

use tcpwatch::symboliser::fuzzed;
use tcpwatch_common::stack::{REGISTER_BYTES, STACK_BYTES};

/// Frames that are followed at most.
const FRAMES_MAX: usize = 256;

pub(crate) fn run(input: &[u8]) {
    let Some((length, rest)) = input.split_first_chunk::<2>() else {
        return;
    };
    let Some((registers, rest)) = rest.split_first_chunk::<REGISTER_BYTES>() else {
        return;
    };
    let length = usize::from(u16::from_le_bytes(*length))
        .min(STACK_BYTES)
        .min(rest.len());
    let (stack, file) = rest.split_at(length);
    let registers: [u64; REGISTER_BYTES / 8] = bytemuck::pod_read_unaligned(registers);
    let walked = fuzzed::unwind(file, &registers, stack);
    assert!(walked.places.len() <= FRAMES_MAX + 1);
}
