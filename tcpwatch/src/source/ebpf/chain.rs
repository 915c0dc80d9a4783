//! Loads the needed programs of a hook's chain, and fills the jump table for their tail calls.

use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use aya::Btf;
use aya::maps::ProgramArray;
use aya::programs::Program;
use hashbrown::HashMap;
use tcpwatch_common::names;

use super::kernel::Kernel;
use super::prepare::Request;
use super::refusal::refusal;
use crate::sys::{threads, tracefs};

/// The name suffix of the programs of one hook and one copy.
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
    /// The name of the entry program, which is attached.
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

    /// The programs of the chain that `request` needs, without the entry program: index in the jump table, and name.
    fn called(self, request: &Request<'_>) -> impl Iterator<Item = (u32, String)> {
        let word = self.word();
        (0..)
            .zip(names::STAGES)
            .filter(|&(stage, _)| request.needs.calls(stage, request.filter))
            .map(move |(stage, name)| (stage, format!("{name}_{word}")))
    }

    /// The names of these programs and of the entry program.
    fn needed(self, request: &Request<'_>) -> impl Iterator<Item = String> {
        let called = self.called(request).map(|(_, name)| name);
        called.chain([self.entry().to_owned()])
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

/// Loads the programs of `chains` that `request` needs, and fills their jump tables. Each chain has its own thread, because the
/// verifier takes most of the start time.
///
/// # Errors
/// One line: why the kernel refuses a program, or why a thread cannot be started.
pub(super) fn load(kernel: &mut Kernel, request: &Request<'_>, chains: &[Suffix]) -> Result<()> {
    let Kernel { ebpf, btf, .. } = kernel;
    let mut programs: HashMap<&str, &mut Program> = ebpf.programs_mut().collect();
    let btf = btf.as_deref();
    thread::scope(|scope| -> Result<()> {
        let mut loading = Vec::new();
        for &suffix in chains {
            let needed = suffix.needed(request).map(|name| {
                let program = programs.remove(name.as_str());
                let program = program.with_context(|| format!("the BPF object has no program {name}"))?;
                Ok((name, program))
            });
            let needed = needed.collect::<Result<Vec<_>>>()?;
            let load_all = move || {
                needed
                    .into_iter()
                    .try_for_each(|(name, program)| load_program(program, &name, btf))
            };
            loading.push(threads::spawn_scoped(scope, "verify", load_all)?);
        }
        loading.into_iter().try_for_each(|thread| {
            thread
                .join()
                .map_err(|_| anyhow!("a thread that loads BPF programs panicked"))?
        })
    })?;
    drop(programs);
    chains
        .iter()
        .try_for_each(|&suffix| fill_jump_table(kernel, request, suffix))
}

/// Loads `program`. Its name is `name`.
fn load_program(program: &mut Program, name: &str, btf: Option<&Btf>) -> Result<()> {
    let loaded = match program {
        Program::BtfTracePoint(program) => program.load(tracefs::NAME, btf.context("no BTF")?),
        Program::TracePoint(program) => program.load(),
        _ => bail!("the BPF object's {name} is not a tracepoint program"),
    };
    loaded.map_err(|error| refusal(name, error))
}

/// Fills the jump table of one chain. The table of the second copy also gets the entry program of the first.
fn fill_jump_table(kernel: &mut Kernel, request: &Request<'_>, suffix: Suffix) -> Result<()> {
    let first = (suffix == Suffix::TypedCopy).then(|| (names::FIRST_ENTRY, Suffix::Typed.entry().to_owned()));
    for (stage, name) in suffix.called(request).chain(first) {
        let program = kernel.ebpf.program(&name).context("the program is gone")?;
        let fd = program.fd()?.try_clone()?;
        let table = kernel
            .ebpf
            .map_mut(suffix.jump_table())
            .context("the BPF object has no jump table")?;
        let set = ProgramArray::try_from(table)?.set(stage, &fd, 0);
        set.with_context(|| format!("the kernel refuses {name} in a jump table"))?;
    }
    Ok(())
}
