//! The user stack at the call that opened a connection: copied by the kernel side, unwound in userspace.

use bytemuck::{Pod, Zeroable};

use crate::owner::Owner;

/// Bytes of a stack that are copied at most: from where the task was in it up to where it began, or an unmapped page.
pub const STACK_BYTES: usize = 16_384;
/// Room for the stacks that are not that deep, which are most: to fill memory costs more than anything else about them.
pub const SHORT_STACK_BYTES: usize = 1024;
/// For those between.
pub const MIDDLE_STACK_BYTES: usize = 4096;
/// Where a page is missing, the stack is copied up to it: no read may reach into it.
pub const STACK_PAGE: usize = 4096;
/// Bytes of `struct pt_regs` that are copied at most: aarch64 has 34 words of registers, x86-64 has 21.
pub const REGISTER_BYTES: usize = 34 * 8;

/// How long after it was called the reader of stacks comes by unasked, ns: to call it costs more than to copy a stack. It stays
/// longer than that.
pub const STACK_CALL_NS: u64 = 20_000_000;

/// What is told with a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct StackHead {
    /// `CLOCK_MONOTONIC` in ns.
    pub time_ns: u64,
    /// The socket's cookie; 0 when it has none yet.
    pub cookie: u64,
    /// When the process began, `CLOCK_BOOTTIME` in ns: with its pid it is one process, and no other.
    pub started: u64,
    /// The process, and how it opened the socket.
    pub owner: Owner,
    /// Inode number of the socket.
    pub inode: u32,
    /// How often the process had called `execve()` (`task_struct.self_exec_id`): another number, another program.
    pub execs: u32,
    /// Bytes of the stack that were copied.
    pub copied: u32,
    /// Zero.
    pub reserved: u32,
    /// The registers it had in user mode: the start of the kernel's `struct pt_regs`, whose order is the architecture's.
    pub registers: [u64; REGISTER_BYTES / 8],
}

const _: () = assert!(size_of::<StackHead>() == 24 + 32 + 16 + REGISTER_BYTES);

/// A record of the ring buffer of stacks: a [`StackHead`], and the stack from the stack pointer upwards.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct StackCopy<const BYTES: usize> {
    /// What is told with it.
    pub head: StackHead,
    /// The copy; what lies past [`StackHead::copied`] is of no meaning.
    pub stack: [u8; BYTES],
}
