//! What the kernel suite stands on: namespaces, sockets, workloads, peers, and the program under test as a child.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) mod agent;
pub(crate) mod cells;
pub(crate) mod cgroup;
pub(crate) mod child;
pub(crate) mod clock;
pub(crate) mod endings;
pub(crate) mod fdinfo;
pub(crate) mod heavy;
pub(crate) mod hold;
pub(crate) mod holder;
pub(crate) mod leaking_server;
pub(crate) mod limits;
pub(crate) mod lines;
pub(crate) mod netns;
pub(crate) mod output;
pub(crate) mod peers;
pub(crate) mod pidns;
pub(crate) mod proc_tcp;
pub(crate) mod program;
pub(crate) mod python;
pub(crate) mod seccomp;
pub(crate) mod sockets;
pub(crate) mod spoiled;
pub(crate) mod stacks;
pub(crate) mod states;
pub(crate) mod steady;
pub(crate) mod unreasoned;
pub(crate) mod unseen;
pub(crate) mod web;
pub(crate) mod workload;

/// 127.0.0.1.
pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// `::1`.
pub(crate) const LOOPBACK_V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
/// `::ffff:127.0.0.1`.
pub(crate) const LOOPBACK_MAPPED: IpAddr = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());

/// Reports that this test, or a part of it, could not run here. The runner lists these lines at its end.
pub(crate) fn not_run(why: &str) {
    loudly(&format!("NOT RUN: {}: {why}", spoiled::this_test()));
}

/// Says something the test harness must not swallow, as it does with the output of a test that passes.
pub(crate) fn loudly(what: &str) {
    // A test need not fail because nobody listens.
    drop(writeln!(std::io::stderr(), "kernel suite: {what}"));
}
