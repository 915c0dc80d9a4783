//! Where data comes from: the running kernel.

pub mod ebpf;
pub mod host;
pub mod leaks;
pub mod listeners;
pub mod live;
pub mod living;
pub mod namespace;
pub mod owners;
pub mod ports;
pub mod procnet;
pub mod sockdiag;
pub mod sockets;
pub mod stacks;
