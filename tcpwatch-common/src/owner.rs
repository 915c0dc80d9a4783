//! Whose a socket is, as the kernel side has it.

use bytemuck::{Pod, Zeroable};

/// [`Owner::how`]: nobody is known.
pub const HOW_UNKNOWN: u8 = 0;
/// [`Owner::how`]: it called `connect()`.
pub const HOW_CONNECT: u8 = 1;
/// [`Owner::how`]: it called `listen()`, on this socket or on the one this one is a child of and waits in the queue of.
pub const HOW_LISTEN: u8 = 2;
/// [`Owner::how`]: it called `accept()`.
pub const HOW_ACCEPT: u8 = 3;
/// [`Owner::how`]: it closed the socket, or shut it down.
pub const HOW_CLOSE: u8 = 4;

/// A process, and how it came to be a socket's owner. Pids are those of the reader's pid namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Owner {
    /// Inode number of its cgroup in the v2 hierarchy (`bpf_get_current_cgroup_id`); 0 when unknown.
    pub cgroup: u64,
    /// Its thread group's id in the reader's pid namespace; 0 where it has none there.
    pub pid: u32,
    /// One of `HOW_*`.
    pub how: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// Name of the thread group's leader (`task_struct.comm`), ended by a zero.
    pub comm: [u8; 16],
}

impl Owner {
    /// Nobody is known.
    pub const UNKNOWN: Self = Self {
        cgroup: 0,
        pid: 0,
        how: HOW_UNKNOWN,
        reserved: [0; 3],
        comm: [0; 16],
    };
}

const _: () = assert!(size_of::<Owner>() == 32);

/// Who listens on a port of a network namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Listener {
    /// Whose the listening sockets are.
    pub owner: Owner,
    /// How many there are.
    pub sockets: u32,
    /// 1 where several processes listen, so that a child cannot be told to be of one of them.
    pub shared: u32,
    /// [`Name::since`] of the owner.
    pub since: u64,
}

const _: () = assert!(size_of::<Listener>() == 48);

/// The name of a process that listens, kept under its id while it lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Name {
    /// As [`Owner::comm`].
    pub comm: [u8; 16],
    /// When it was first kept, ns, 0 for before the start: another process with the same id has another.
    pub since: u64,
}

/// The key of a [`Listener`]: namespace inode number and port.
#[inline(always)]
#[must_use]
pub const fn listener_key(netns: u32, port: u16) -> u64 {
    (netns as u64) << 16 | port as u64
}
