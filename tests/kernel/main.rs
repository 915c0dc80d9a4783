//! The kernel suite: what tcpwatch says, compared with what others say of the same kernel, in the same run.
//!
//! It needs root (each test makes namespaces of its own), binutils, bpftrace, bpftool, gcc, iproute2, libbpf-tools, net-tools, nginx,
//! procps, python3 and wrk, and runs when asked for: `cargo xtask test`, or `cargo test -p tcpwatch --test kernel` as root. Nothing a
//! test does reaches the host.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod a_minute;
mod addresses;
mod bad_btf;
mod bad_formats;
mod bad_input;
mod by_owner;
mod by_pod;
mod churn;
mod counters;
mod doctor;
mod endings;
mod exhaustion;
mod explain;
mod filters;
mod findings;
mod fixtures;
mod interrupted;
mod latency;
mod leaks;
mod ledger;
mod life;
mod limits;
mod live;
mod lives;
mod loss;
mod many_namespaces;
mod marks;
mod matrix;
mod no_process;
mod nothing_left;
mod owners;
mod pipe;
mod ports;
mod privileges;
mod proc_hangs;
mod processes;
mod readers;
mod recording;
mod recording_options;
mod replay;
mod scope;
mod seccomp;
mod side_by_side;
mod slow_output;
mod snapshot;
mod stacks;
mod strangers;
mod time_wait;
mod time_zone;
mod timens;
