//! Watches with the needs that are named, reads the records, and drops them. `cargo xtask bench` measures with it what sets of needs
//! cost that no command has.
//!
//! `watch_needs transitions owners latency` watches until it is interrupted.

use std::env;
use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Result, bail};
use tcpwatch::input::latency::LatencyBy;
use tcpwatch::input::owner::OwnerBy;
use tcpwatch::source::ebpf::object::EMBEDDED;
use tcpwatch::source::ebpf::{Hook, Kernel, KernelNeeds, LatencyGroups, Request};
use tcpwatch_common::Filter;
use tokio::signal::ctrl_c;
use tokio::time::sleep;

/// Bytes of the ring buffer of records, and of that of stacks.
const RING_BYTES: u32 = 8 << 20;
/// How often the rings are looked at unasked, as commands do.
const POLL: Duration = Duration::from_millis(50);
/// Records that are taken at once.
const MOST: usize = 65_536;

fn main() -> Result<()> {
    let needs = needs()?;
    let request = Request {
        object: EMBEDDED,
        filter: &Filter::ALL,
        ports: &[],
        needs,
        ring_bytes: RING_BYTES,
        stacks_ring_bytes: RING_BYTES,
    };
    let mut kernel = Kernel::attached(&request, Hook::TpBtf)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(watch(&mut kernel, needs))?;
    let ledger = kernel.ledger();
    writeln!(io::stdout(), "{} lost, {} stacks lost", ledger.lost, ledger.lost_stacks)?;
    Ok(())
}

/// The needs named on the command line.
fn needs() -> Result<KernelNeeds> {
    let mut needs = KernelNeeds::default();
    for name in env::args().skip(1) {
        match name.as_str() {
            "transitions" => needs.transitions = true,
            "connections" => needs.connections = true,
            "openings" => needs.openings = true,
            "owners" => needs.owners = true,
            "latency" => needs.latency = Some(LatencyGroups::from(LatencyBy::Owner(OwnerBy::Process))),
            "stacks" => needs.stacks = true,
            _ => bail!("no need is named {name}; type transitions, connections, openings, owners, latency or stacks"),
        }
    }
    Ok(needs)
}

/// Takes the records as they come.
async fn watch(kernel: &mut Kernel, needs: KernelNeeds) -> Result<()> {
    let mut stream = kernel.stream()?;
    let mut stacks = needs.stacks.then(|| kernel.stacks()).transpose()?;
    loop {
        tokio::select! {
            asked = ctrl_c() => return Ok(asked?),
            filled = stream.filled() => filled?,
            () = sleep(POLL) => {}
        }
        stream.drain(MOST, drop);
        if let Some(ring) = &mut stacks {
            let _taken = (0..MOST).take_while(|_| ring.next(|_, _| ()).is_some()).count();
        }
    }
}
