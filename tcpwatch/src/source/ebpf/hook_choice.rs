//! Attaches the best hook of the running kernel.

use std::io::{self, Write};

use anyhow::{Result, bail};

use tcpwatch_common::Filter;

use super::feature::{FeatureKind, Features};
use super::{Hook, Kernel, KernelNeeds, LatencyGroups, Request, object};
use crate::input::latency::LatencyBy;
use crate::input::owner::OwnerBy;

/// The hook to attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The best hook that loads.
    Auto,
    /// Only this hook.
    Only(Hook),
}

/// Attaches `tp_btf` or, if that fails, the classic tracepoint.
///
/// # Errors
/// One line: each tried hook, why it does not work, and what to try.
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
                "tcpwatch: using the classic tracepoint, because tp_btf does not work: {typed}"
            );
            Ok(kernel)
        }
        Err(why) => {
            let classic = format!("{why:#}");
            if classic == typed {
                bail!(typed);
            }
            bail!(
                "cannot watch the kernel: tp_btf: {typed}; tracepoint: {classic}; try tcpwatch snapshot, which \
            needs no hook"
            )
        }
    }
}

/// Probes the features of the running kernel: tries each hook, and the features of the best one.
#[must_use]
pub fn survey() -> Features {
    let all = KernelNeeds {
        transitions: true,
        connections: true,
        openings: true,
        owners: true,
        latency: Some(LatencyGroups::from(LatencyBy::Owner(OwnerBy::Process))),
        stacks: false,
        namespaces: true,
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
