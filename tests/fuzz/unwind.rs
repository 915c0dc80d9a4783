//! ELF files, and stacks that are unwound by what they say: each frame is above the one before, so it ends.
//!
//! The input has the length of the stack, the registers, the stack and then the file.

use tcpwatch::source::stacks::fuzzed;
use tcpwatch_common::StackHead;
use tcpwatch_common::stack::{REGISTER_BYTES, STACK_BYTES};

use crate::tree::{Tree, with_tree};

/// What is mapped: 1 MiB of the file, as code.
const MAPS: &str = "400000-500000 r-xp 00000000 fe:00 1312 /bin/a\n";
/// The same in another form.
const FILE: &str = "proc/1/map_files/400000-500000";
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
    let mut head: StackHead = bytemuck::Zeroable::zeroed();
    head.owner.pid = 1;
    head.registers = bytemuck::pod_read_unaligned(registers);
    with_tree!(make, |tree| {
        tree.write(FILE, file);
        let trace = fuzzed::unwind(tree.path(), &head, stack);
        assert!(trace.addresses.len() <= FRAMES_MAX + 1);
    });
}

fn make(tree: &Tree) {
    make_process(tree);
    tree.write("proc/1/maps", MAPS.as_bytes());
}

/// Makes process 1, which began when the machine did.
pub(crate) fn make_process(tree: &Tree) {
    tree.write("proc/1/comm", b"a\n");
    tree.write("proc/1/stat", b"1 (a) S 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 0 0 0\n");
    tree.write("proc/1/status", b"Name:\ta\nNSpid:\t1\n");
}
