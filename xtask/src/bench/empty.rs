//! The program that does nothing, on the same tracepoint: what any program there costs.

use anyhow::{Context as _, Result};
use aya::programs::BtfTracePoint;
use aya::{Btf, Ebpf};
use tcpwatch_common::names;

/// The tracepoint.
const TRACEPOINT: &str = "inet_sock_set_state";

/// Loads and attaches it, out of tcpwatch's own object; dropping it detaches.
pub(super) fn attach(object: &[u8]) -> Result<Ebpf> {
    let mut ebpf = Ebpf::load(object).context("the kernel refuses the maps of the BPF object")?;
    let btf = Btf::from_sys_fs().context("cannot read the kernel's BTF")?;
    let program: &mut BtfTracePoint = ebpf
        .program_mut(names::PROG_EMPTY)
        .with_context(|| format!("the BPF object has no program {}", names::PROG_EMPTY))?
        .try_into()?;
    program
        .load(TRACEPOINT, &btf)
        .context("the kernel refuses the empty program")?;
    program
        .attach()
        .context("the kernel refuses to attach the empty program")?;
    Ok(ebpf)
}
