//! The user stack at the call that opened a connection. A BPF program copies it, and userspace unwinds it.

use bytemuck::{Pod, Zeroable};

use crate::owner::Owner;

/// The maximum number of copied stack bytes: from the stack pointer up to the start of the stack or to an unmapped page.
pub const STACK_BYTES: usize = 16_384;
/// Record size for shallow stacks, which are the most frequent. Filling memory is the largest cost of a copy.
pub const SHORT_STACK_BYTES: usize = 1024;
/// Record size for stacks of medium depth.
pub const MIDDLE_STACK_BYTES: usize = 4096;
/// Size of a page. If a page is unmapped, the stack is copied up to that page.
pub const STACK_PAGE: usize = 4096;
/// The maximum number of copied bytes of `struct pt_regs`: aarch64 has 34 words of registers, x86-64 has 21.
pub const REGISTER_BYTES: usize = 34 * 8;

/// Minimum time between two wakeups of the stack reader, ns. A wakeup costs more than a copy of a stack, and the reader keeps
/// polling for longer than this.
pub const STACK_CALL_NS: u64 = 20_000_000;

/// The header of a stack record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct StackHead {
    /// `CLOCK_MONOTONIC` in ns.
    pub time_ns: u64,
    /// Cookie of the socket; 0 if it has none yet.
    pub cookie: u64,
    /// Start time of the process, `CLOCK_BOOTTIME` in ns. PID and start time identify a process.
    pub started: u64,
    /// The process, and how it opened the socket.
    pub owner: Owner,
    /// Inode number of the socket.
    pub inode: u32,
    /// How often the process has called `execve()` (`task_struct.self_exec_id`). Another number means another program.
    pub execs: u32,
    /// Number of copied stack bytes.
    pub copied: u32,
    /// Zero.
    pub reserved: u32,
    /// The user-mode registers: the start of the kernel's `struct pt_regs`, in the order of the architecture.
    pub registers: [u64; REGISTER_BYTES / 8],
}

const _: () = assert!(size_of::<StackHead>() == 24 + 32 + 16 + REGISTER_BYTES);

/// A record of the ring buffer of stacks: a [`StackHead`], then the stack from the stack pointer upwards.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct StackCopy<const BYTES: usize> {
    /// The header.
    pub head: StackHead,
    /// The copy. Bytes after [`StackHead::copied`] are undefined.
    pub stack: [u8; BYTES],
}
