//! The programs and files tcpwatch is compared with. None of them is ours.

use std::process::Command;

use super::output::output;

pub(crate) mod bpftrace;
pub(crate) mod netstat;
pub(crate) mod nstat;
pub(crate) mod snmp;
pub(crate) mod ss;
pub(crate) mod tc;
pub(crate) mod tcplife;

/// Runs a peer to its end, and returns its standard output.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    output(Command::new(program).args(args))
}
