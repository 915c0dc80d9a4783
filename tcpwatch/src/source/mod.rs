//! Where data comes from: the running kernel.

pub mod ebpf;
