//! The chain of programs on one hook: loads those that are needed, and fills the jump table by which they call each other.

use anyhow::{Context, Result, bail};
use aya::maps::ProgramArray;
use aya::programs::{Program, ProgramFd};
use tcpwatch_common::names;

use super::kernel::Kernel;
use super::prepare::Request;
use super::refusal::refusal;
use crate::sys::tracefs;

/// A hook and a copy of its programs: how their names end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suffix {
    /// `tp_btf`.
    Typed,
    /// The second copy on `tp_btf`.
    TypedCopy,
    /// The classic tracepoint.
    Classic,
}

impl Suffix {
    /// The name of the program that is attached.
    pub(super) fn entry(self) -> &'static str {
        match self {
            Self::Typed => "entry_typed",
            Self::TypedCopy => "entry_typed2",
            Self::Classic => "entry_classic",
        }
    }

    /// The names of all programs with this suffix.
    pub(super) fn programs(self) -> impl Iterator<Item = String> {
        let word = self.word();
        names::STAGES
            .into_iter()
            .chain([names::ENTRY])
            .map(move |name| format!("{name}_{word}"))
    }

    fn word(self) -> &'static str {
        match self {
            Self::Typed => names::TYPED,
            Self::TypedCopy => names::TYPED_COPY,
            Self::Classic => names::CLASSIC,
        }
    }

    fn jump_table(self) -> &'static str {
        match self {
            Self::Typed => names::MAP_STAGES_TYPED,
            Self::TypedCopy => names::MAP_STAGES_TYPED_COPY,
            Self::Classic => names::MAP_STAGES_CLASSIC,
        }
    }
}

/// Loads the programs of one chain that are needed.
///
/// # Errors
/// The kernel refuses one of them: one line with its reason.
pub(super) fn load(kernel: &mut Kernel, request: &Request<'_>, suffix: Suffix) -> Result<()> {
    let word = suffix.word();
    for (stage, name) in (0..).zip(names::STAGES) {
        if !request.needs.calls(stage, request.filter) {
            continue;
        }
        let fd = load_program(kernel, &format!("{name}_{word}"))?;
        let table = kernel
            .ebpf
            .map_mut(suffix.jump_table())
            .context("the BPF object has no jump table")?;
        let set = ProgramArray::try_from(table)?.set(stage, &fd, 0);
        set.with_context(|| format!("the kernel refuses a tail call to {name}_{word}"))?;
    }
    load_program(kernel, suffix.entry())?;
    Ok(())
}

/// Loads the program `name`.
fn load_program(kernel: &mut Kernel, name: &str) -> Result<ProgramFd> {
    let program = kernel
        .ebpf
        .program_mut(name)
        .with_context(|| format!("the BPF object has no program {name}"))?;
    let loaded = match program {
        Program::BtfTracePoint(program) => {
            let btf = kernel.btf.as_ref().context("no BTF")?;
            program.load(tracefs::NAME, btf)
        }
        Program::TracePoint(program) => program.load(),
        _ => bail!("the BPF object's {name} is no tracepoint program"),
    };
    loaded.map_err(|error| refusal(name, error))?;
    Ok(program.fd()?.try_clone()?)
}
