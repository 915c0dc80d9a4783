//! Attaches the best hook that the running kernel takes.

use std::io::{self, Write};

use anyhow::{Result, bail};

use tcpwatch_common::Filter;

use super::{Hook, Kernel, Needs, Request, object};

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

/// The best hook that the running kernel takes.
///
/// # Errors
/// As [`open`].
pub fn best_hook() -> Result<Hook> {
    let request = Request {
        object: object::EMBEDDED,
        filter: &Filter::ALL,
        ports: &[],
        needs: Needs::default(),
        ring_bytes: 0,
        stacks_ring_bytes: 0,
    };
    let kernel = open(Choice::Auto, |hook| Kernel::attached(&request, hook))?;
    Ok(kernel.hook().unwrap_or(Hook::Tracepoint))
}
