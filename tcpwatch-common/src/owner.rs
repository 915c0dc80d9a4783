//! The owner of a socket, in its wire form.

use bytemuck::{Pod, Zeroable};

/// [`Owner::how`]: the owner is unknown.
pub const HOW_UNKNOWN: u8 = 0;
/// [`Owner::how`]: the process called `connect()`.
pub const HOW_CONNECT: u8 = 1;
/// [`Owner::how`]: the process called `listen()` on this socket, or on the listener whose queue this connection is in.
pub const HOW_LISTEN: u8 = 2;
/// [`Owner::how`]: the process called `accept()`.
pub const HOW_ACCEPT: u8 = 3;
/// [`Owner::how`]: the process called `close()` or `shutdown()`.
pub const HOW_CLOSE: u8 = 4;

/// A process, and how tcpwatch knows that it owns the socket. PIDs are in the PID namespace of the reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Owner {
    /// Inode number of its cgroup in the v2 hierarchy (`bpf_get_current_cgroup_id`); 0 if unknown.
    pub cgroup: u64,
    /// Process ID in the PID namespace of the reader; 0 if it has none there.
    pub pid: u32,
    /// One of `HOW_*`.
    pub how: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// Name of the thread group leader (`task_struct.comm`), terminated by a zero byte.
    pub comm: [u8; 16],
}

impl Owner {
    /// An unknown owner.
    pub const UNKNOWN: Self = Self {
        cgroup: 0,
        pid: 0,
        how: HOW_UNKNOWN,
        reserved: [0; 3],
        comm: [0; 16],
    };
}

const _: () = assert!(size_of::<Owner>() == 32);

/// The listeners on a port of a network namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct PortListeners {
    /// The owner of the listeners.
    pub owner: Owner,
    /// Number of listeners.
    pub sockets: u32,
    /// 1 if several processes listen, so the owner of a child is unknown.
    pub shared: u32,
    /// [`Name::since`] of the owner.
    pub since: u64,
}

const _: () = assert!(size_of::<PortListeners>() == 48);

/// The name of a listening process, stored by its ID until it exits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Name {
    /// The name, as in [`Owner::comm`].
    pub comm: [u8; 16],
    /// When it was first stored, ns; 0 for before the start. Another process with the same ID has another value.
    pub since: u64,
}

/// The key of [`PortListeners`]: namespace inode number and port.
#[inline(always)]
#[must_use]
pub const fn listener_key(netns: u32, port: u16) -> u64 {
    (netns as u64) << 16 | port as u64
}
