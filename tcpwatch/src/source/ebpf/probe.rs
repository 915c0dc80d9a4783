//! Probes what the running kernel offers, by loading a small program for each feature.

use anyhow::{Context, Result, bail};
use aya::programs::{Program, ProgramError};
use tcpwatch_common::names;

use super::feature::{FeatureKind, Features};
use super::kernel::Kernel;
use super::refusal::refusal;
use crate::sys::tracefs;

/// What the programs may use of the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is there or not, whatever the others")]
pub(super) struct Helpers {
    /// State in the storage of each socket.
    pub(super) sk_storage: bool,
    /// Marks by `iter/tcp`.
    pub(super) marks: bool,
    /// A second copy of the programs.
    pub(super) second_copy: bool,
    /// `bpf_get_current_task_btf`.
    pub(super) task_btf: bool,
    /// `bpf_get_socket_cookie`.
    pub(super) cookie: bool,
    /// `bpf_task_pt_regs`.
    pub(super) pt_regs: bool,
    /// A program sees the death of each socket.
    pub(super) destroy: bool,
}

impl Helpers {
    /// All of it.
    pub(super) fn all() -> Self {
        Self {
            sk_storage: true,
            marks: true,
            second_copy: true,
            task_btf: true,
            cookie: true,
            pt_regs: true,
            destroy: true,
        }
    }
}

/// Probes what programs on `tp_btf` may use, and notes it in `features`.
///
/// # Errors
/// The kernel takes no program on `tp_btf` at all.
pub(super) fn helpers(kernel: &mut Kernel, features: &mut Features) -> Result<Helpers> {
    // One that asks for nothing: where it is refused, so is every other.
    if let Some(why) = refused(kernel, names::PROG_EMPTY)? {
        bail!(why);
    }
    let mut offers = |kind, program: &str| -> Result<bool> {
        let off = refused(kernel, program)?;
        let on = off.is_none();
        features.note(kind, off);
        Ok(on)
    };
    let sk_storage = offers(FeatureKind::SkStorage, names::PROG_HAS_SK_STORAGE)?;
    let iter_locks = offers(FeatureKind::ExactMarks, names::PROG_ITER_LOCKS)?;
    let cookie = offers(FeatureKind::Cookies, names::PROG_HAS_COOKIE)?;
    // A kernel that may skip runs counts them.
    let skips = kernel.skipped(names::PROG_EMPTY).is_some();
    features.note(
        FeatureKind::SecondCopy,
        (!skips).then(|| "not needed: this kernel skips no runs".to_owned()),
    );
    features.note(
        FeatureKind::SkippedRuns,
        (!skips).then(|| "not needed: this kernel skips no runs".to_owned()),
    );
    let mut helpers = Helpers {
        sk_storage,
        marks: sk_storage && iter_locks,
        second_copy: skips,
        cookie,
        destroy: true,
        ..Helpers::default()
    };
    task_helpers(kernel, &mut helpers)?;
    Ok(helpers)
}

/// Probes what programs of any kind may use of the running task.
///
/// # Errors
/// The BPF object has no program to probe with.
pub(super) fn task_helpers(kernel: &mut Kernel, helpers: &mut Helpers) -> Result<()> {
    helpers.task_btf = refused(kernel, names::PROG_HAS_TASK_BTF)?.is_none();
    helpers.pt_regs = refused(kernel, names::PROG_HAS_PT_REGS)?.is_none();
    Ok(())
}

/// Why the kernel refuses the program `name`; `None` where it takes it.
///
/// # Errors
/// The BPF object has no such program.
fn refused(kernel: &mut Kernel, name: &str) -> Result<Option<String>> {
    let btf = kernel.btf.clone().context("no BTF")?;
    let program = kernel
        .ebpf
        .program_mut(name)
        .with_context(|| format!("the BPF object has no program {name}"))?;
    let loaded: Result<(), ProgramError> = match program {
        Program::BtfTracePoint(program) => program.load(tracefs::NAME, &btf),
        Program::Iter(program) => program.load("tcp", &btf),
        _ => bail!("the BPF object's {name} is no program to probe with"),
    };
    Ok(loaded.err().map(|error| format!("{:#}", refusal(name, error))))
}
