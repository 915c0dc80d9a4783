//! `tcpwatch --version`.

use std::io::Write;

use anyhow::Result;
use tcpwatch_common::ABI_VERSION;

use crate::source::ebpf;

/// Prints the version; where `verbose`, also what the kernel side is, and the hook this kernel would get.
///
/// # Errors
/// The output takes no more.
pub fn run(verbose: bool, out: &mut impl Write) -> Result<()> {
    writeln!(out, "tcpwatch {}", env!("CARGO_PKG_VERSION"))?;
    if verbose {
        let size = ebpf::object::EMBEDDED.len();
        writeln!(
            out,
            "object: {size} bytes, built with {}",
            env!("TCPWATCH_BPF_BUILT_WITH")
        )?;
        writeln!(out, "ABI: {ABI_VERSION}")?;
        match ebpf::best_hook() {
            Ok(hook) => writeln!(out, "hook: {hook}")?,
            Err(error) => writeln!(out, "hook: none ({error:#})")?,
        }
    }
    Ok(())
}
