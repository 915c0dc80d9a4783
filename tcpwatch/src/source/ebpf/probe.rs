//! Probes the features of the running kernel, by loading a small program for each.

use std::io;
use std::os::fd::AsFd as _;

use anyhow::{Context, Result, bail};
use aya::programs::{Program, ProgramError};
use rustix::io::Errno;
use tcpwatch_common::names;

use super::bpf;
use super::feature::FeatureKind;
use super::kernel::{Kernel, Skips};
use super::refusal::{is_denied, is_one_of, refusal};
use crate::sys::btf::RunsLayout;
use crate::sys::tracefs;

/// The kernel features that the programs may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the features are independent")]
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
    /// A program sees the destruction of each socket.
    pub(super) destroy: bool,
    /// Hash tables whose entries are allocated on demand.
    pub(super) entries_on_demand: bool,
}

impl Helpers {
    /// The most that programs on the classic hook may use; `typed`: typed programs are loaded with them.
    pub(super) fn on_classic(typed: bool) -> Self {
        Self {
            task_btf: typed,
            pt_regs: typed,
            destroy: true,
            entries_on_demand: true,
            ..Self::default()
        }
    }

    /// All features.
    pub(super) fn all() -> Self {
        Self {
            sk_storage: true,
            marks: true,
            second_copy: true,
            task_btf: true,
            cookie: true,
            pt_regs: true,
            destroy: true,
            entries_on_demand: true,
        }
    }
}

/// Probes the features for programs on `tp_btf`, and records them in `kernel`.
///
/// # Errors
/// The kernel accepts no program on `tp_btf`, or refuses one because of missing permissions or memory.
pub(super) fn helpers(kernel: &mut Kernel, runs: Option<RunsLayout>) -> Result<Helpers> {
    // A program that needs nothing. If the kernel refuses it, it refuses every other.
    if let Some(why) = refused(kernel, names::PROG_EMPTY)? {
        bail!(why);
    }
    let mut offers = |kind, program: &str| -> Result<bool> {
        let off = refused(kernel, program)?;
        let on = off.is_none();
        kernel.features.note(kind, off);
        Ok(on)
    };
    let sk_storage = offers(FeatureKind::SkStorage, names::PROG_HAS_SK_STORAGE)?;
    let iter_locks = offers(FeatureKind::ExactMarks, names::PROG_ITER_LOCKS)?;
    let cookie = offers(FeatureKind::Cookies, names::PROG_HAS_COOKIE)?;
    let second_copy = probe_skips(kernel, runs)?;
    let mut helpers = Helpers {
        sk_storage,
        marks: sk_storage && iter_locks,
        second_copy,
        cookie,
        destroy: true,
        entries_on_demand: bpf::allows_entries_on_demand()?,
        ..Helpers::default()
    };
    task_helpers(kernel, &mut helpers)?;
    Ok(helpers)
}

/// Whether to load a second copy: the kernel may skip runs of typed programs, and BTF shows where it counts running programs
/// (`runs`). A kernel that may skip runs counts them.
fn probe_skips(kernel: &mut Kernel, runs: Option<RunsLayout>) -> Result<bool> {
    let program = kernel.ebpf.program(names::PROG_EMPTY).context("the program is gone")?;
    let count = bpf::skipped_runs(program.fd()?.as_fd());
    let not_needed = "not needed: this kernel skips no runs";
    let (skips, skipped_runs) = match count {
        Ok(Some(_)) => (Skips::Counted, None),
        Ok(None) => (Skips::Never, Some(not_needed.to_owned())),
        Err(why) => (Skips::Uncounted, Some(format!("{why:#}"))),
    };
    let second_copy = match (skips, runs) {
        (Skips::Never, _) => Some(not_needed),
        (_, None) => Some("the kernel's BTF does not show where it counts the runs of a program (bpf_prog.active)"),
        _ => None,
    };
    let on = second_copy.is_none();
    kernel.skips = skips;
    kernel
        .features
        .note(FeatureKind::SecondCopy, second_copy.map(str::to_owned));
    kernel.features.note(FeatureKind::SkippedRuns, skipped_runs);
    Ok(on)
}

/// Probes the features for programs on the classic hook, and records them in `kernel`. `counts_skips`: the kernel counts
/// skipped runs, which its types show.
///
/// # Errors
/// The kernel refuses a program because of missing permissions or memory.
pub(super) fn classic_helpers(kernel: &mut Kernel, counts_skips: bool) -> Result<Helpers> {
    for kind in [
        FeatureKind::SkStorage,
        FeatureKind::ExactMarks,
        FeatureKind::Cookies,
        FeatureKind::SecondCopy,
    ] {
        kernel.features.note(kind, Some("only on tp_btf".to_owned()));
    }
    kernel.skips = if counts_skips { Skips::Counted } else { Skips::Uncounted };
    let uncounted = (!counts_skips).then(|| "this kernel does not count them".to_owned());
    kernel.features.note(FeatureKind::SkippedRuns, uncounted);
    let typed = kernel.btf.is_some();
    let mut helpers = Helpers {
        entries_on_demand: bpf::allows_entries_on_demand()?,
        ..Helpers::on_classic(typed)
    };
    if typed {
        task_helpers(kernel, &mut helpers)?;
    }
    Ok(helpers)
}

/// Probes how programs may read the running task.
fn task_helpers(kernel: &mut Kernel, helpers: &mut Helpers) -> Result<()> {
    helpers.task_btf = refused(kernel, names::PROG_HAS_TASK_BTF)?.is_none();
    helpers.pt_regs = refused(kernel, names::PROG_HAS_PT_REGS)?.is_none();
    Ok(())
}

/// Why the kernel refuses the program `name`; `None` if it accepts it.
///
/// # Errors
/// The kernel refuses it for a reason that does not depend on the program.
fn refused(kernel: &mut Kernel, name: &str) -> Result<Option<String>> {
    let btf = kernel.btf.clone().context("no BTF")?;
    let program = kernel
        .ebpf
        .program_mut(name)
        .with_context(|| format!("the BPF object has no program {name}"))?;
    let loaded: Result<(), ProgramError> = match program {
        Program::BtfTracePoint(program) => program.load(tracefs::NAME, &btf),
        Program::Iter(program) => program.load("tcp", &btf),
        _ => bail!("the BPF object's {name} is not a probe program"),
    };
    let Err(error) = loaded else { return Ok(None) };
    let of_the_process = matches!(&error, ProgramError::LoadError { io_error, .. } if is_of_the_process(io_error));
    let why = refusal(name, error);
    if of_the_process {
        Err(why)
    } else {
        Ok(Some(format!("{why:#}")))
    }
}

/// Whether `error` means missing permissions or resources of this process, for any program.
fn is_of_the_process(error: &io::Error) -> bool {
    let room = [Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::AGAIN, Errno::INTR];
    is_denied(error) || is_one_of(error, &room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_process_turn_no_feature_off() {
        let error = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        for errno in [Errno::INVAL, Errno::ACCESS, Errno::TOOBIG] {
            assert!(!is_of_the_process(&error(errno)), "{errno}");
        }
        for errno in [Errno::PERM, Errno::NOMEM, Errno::MFILE] {
            assert!(is_of_the_process(&error(errno)), "{errno}");
        }
    }
}
