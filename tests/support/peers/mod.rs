//! The programs and files tcpwatch is compared with. None of them is ours.

use std::process::{Command, Output};

pub(crate) mod bpftrace;
pub(crate) mod netstat;
pub(crate) mod nstat;
pub(crate) mod snmp;
pub(crate) mod ss;
pub(crate) mod tc;
pub(crate) mod tcplife;

/// Runs a peer to its end. One that is not installed fails the test, saying what to install.
fn run(program: &str, package: &str, args: &[&str]) -> Output {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}. Install it: apt-get install {package}"));
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
