//! The sources of inputs: the running kernel, its sockets and /proc.

pub mod ebpf;
pub mod host;
pub mod listeners;
pub mod live;
pub mod namespace_names;
pub mod namespaces;
pub mod owner_resolver;
pub mod owners;
pub mod ports;
pub mod procnet;
pub mod sockdiag;
pub mod socket_scan;
pub mod sockets;
pub mod stacks;
pub mod totals;
pub mod worker;
