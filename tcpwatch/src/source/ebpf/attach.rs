//! Attaches the programs of a hook.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use aya::programs::{BtfTracePoint, TracePoint};
use tcpwatch_common::names;

use super::chain::{self, Suffix};
use super::kernel::{Hook, Kernel, Link};
use super::prepare::{NamespacesUnknown, Prepared, Request, prepared};
use super::refusal::explained;
use crate::sys::{perf_event, tracefs};

/// The error and the remedy if user stacks are not possible.
const NO_STACKS: &str = "cannot record user stacks; try without --stacks";

impl Kernel {
    /// Loads the programs of `hook` and attaches them.
    ///
    /// # Errors
    /// One line: what the kernel refuses, why, and what to try.
    pub fn attached(request: &Request<'_>, hook: Hook) -> Result<Self> {
        prepared(request, hook, |prepared| attach(prepared, hook)).map_err(|why| {
            if why.is::<NamespacesUnknown>() {
                why
            } else {
                explained(&why)
            }
        })
    }
}

/// Attaches everything: first the programs on other tracepoints, then the hook.
fn attach(mut prepared: Prepared<'_>, hook: Hook) -> Result<Kernel> {
    let mut refused = prepared.attach_aux_programs(hook);
    let destroy = match hook {
        Hook::TpBtf => names::PROG_DESTROY_TP_BTF,
        Hook::Tracepoint => names::PROG_DESTROY_TRACEPOINT,
    };
    if !prepared.helpers().sk_storage && refused.why(destroy).is_some() {
        prepared = prepared.without_destroy()?;
        refused = prepared.attach_aux_programs(hook);
    }
    if prepared.request().needs.stacks {
        prepared.attach_stacks().context(NO_STACKS)?;
    }
    prepared.kernel.hook = Some(hook);
    let chains: &[Suffix] = match hook {
        Hook::Tracepoint => &[Suffix::Classic],
        // The kernel calls programs in the order in which they were attached. The second copy must run after the first.
        Hook::TpBtf if prepared.helpers().second_copy => &[Suffix::Typed, Suffix::TypedCopy],
        Hook::TpBtf => &[Suffix::Typed],
    };
    let request = prepared.request();
    let tasks = prepared.unknown_tasks().filter(|_| request.needs.owners);
    let owners = tasks.map(|why| format!("the owners of connections are unknown: {why}"));
    let unknown = [owners, refused.words()].into_iter().flatten().collect();
    let mut kernel = prepared.kernel;
    chain::load(&mut kernel, request, chains)?;
    for &suffix in chains {
        kernel.attach_entry(suffix)?;
    }
    kernel.unknown = unknown;
    Ok(kernel)
}

impl Kernel {
    /// Attaches the entry program of one chain.
    fn attach_entry(&mut self, suffix: Suffix) -> Result<()> {
        let name = suffix.entry();
        let program = self
            .ebpf
            .program_mut(name)
            .with_context(|| format!("the BPF object has no program {name}"))?;
        let link = if suffix == Suffix::Classic {
            let program: &mut TracePoint = program.try_into()?;
            let attached = program.attach(tracefs::CATEGORY, tracefs::NAME);
            let why = perf_event::refusal(Path::new("/")).filter(|_| attached.is_err());
            let attached = attached.context("the kernel refuses to attach to the tracepoint sock:inet_sock_set_state");
            Link::Classic(match why {
                Some(why) => attached.map_err(|_| anyhow!("the kernel refuses the classic tracepoint: {why}"))?,
                None => attached?,
            })
        } else {
            let program: &mut BtfTracePoint = program.try_into()?;
            let attached = program.attach();
            Link::Typed(
                name,
                attached.context("the kernel refuses to attach to tp_btf/inet_sock_set_state")?,
            )
        };
        self.links.push(link);
        Ok(())
    }
}
