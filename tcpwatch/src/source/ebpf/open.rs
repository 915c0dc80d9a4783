//! Attaches the best hook that the running kernel takes.

use std::io::{self, Write};

use anyhow::{Result, bail};

use tcpwatch_common::Filter;

use super::feature::{FeatureKind, Features};
use super::{Hook, Kernel, KernelNeeds, Request, object};
use crate::input::latency::LatencyBy;

/// Which hook to attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The best that loads.
    Auto,
    /// This one alone.
    Only(Hook),
}

/// Attaches `tp_btf` or, where that cannot be had, the classic tracepoint.
///
/// # Errors
/// One line: each hook that was tried, why it cannot be had, and what to type.
pub fn open(choice: Choice, mut load: impl FnMut(Hook) -> Result<Kernel>) -> Result<Kernel> {
    if let Choice::Only(hook) = choice {
        return load(hook);
    }
    let typed = match load(Hook::TpBtf) {
        Ok(kernel) => return Ok(kernel),
        Err(why) => format!("{why:#}"),
    };
    match load(Hook::Tracepoint) {
        Ok(kernel) => {
            let _ = writeln!(
                io::stderr(),
                "tcpwatch: using the classic tracepoint, since tp_btf cannot be had: {typed}"
            );
            Ok(kernel)
        }
        Err(why) => {
            let classic = format!("{why:#}");
            if classic == typed {
                bail!(typed);
            }
            bail!("no hook works here: tp_btf: {typed}; tracepoint: {classic}; tcpwatch snapshot works without one")
        }
    }
}

/// What the running kernel offers: each hook, and what the best of them can use, is tried with a program.
#[must_use]
pub fn survey() -> Features {
    let all = KernelNeeds {
        transitions: true,
        connections: true,
        openings: true,
        owners: true,
        latency: Some(LatencyBy::Process),
        stacks: false,
    };
    let request = Request {
        object: object::EMBEDDED,
        filter: &Filter::ALL,
        ports: &[],
        needs: all,
        ring_bytes: 4096,
        stacks_ring_bytes: 4096,
    };
    let attached = [Hook::TpBtf, Hook::Tracepoint].map(|hook| Kernel::attached(&request, hook));
    let best = attached.iter().find_map(|kernel| kernel.as_ref().ok());
    let mut features = best.map(|kernel| kernel.features().clone()).unwrap_or_default();
    for (kernel, kind) in attached.iter().zip([FeatureKind::TpBtf, FeatureKind::Tracepoint]) {
        let off = kernel.as_ref().err().map(|why| format!("{why:#}"));
        features.note(kind, off);
    }
    drop(attached);
    let stacks = Request {
        needs: KernelNeeds { stacks: true, ..all },
        ..request
    };
    let attached = Kernel::attached(&stacks, features.hook().unwrap_or(Hook::Tracepoint));
    features.note(FeatureKind::Stacks, attached.err().map(|why| format!("{why:#}")));
    features
}
