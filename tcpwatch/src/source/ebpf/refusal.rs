//! Explains in one line why the kernel refuses a BPF program or map.

use std::io;

use anyhow::anyhow;
use aya::programs::ProgramError;
use rustix::io::Errno;

use crate::sys::memlock;

/// The reason and the remedy if bpf(2) returns EPERM although this process has the capabilities.
pub(super) const NOT_PERMITTED: &str =
    "bpf(2) is not permitted here, at least in part (seccomp, LSM or container); try outside of the container";

/// The reason and the remedy if bpf(2) returns EPERM although this process has the capabilities. Before Linux 5.11 it also does
/// so if `RLIMIT_MEMLOCK` is too low for a map or a program.
pub(super) fn not_permitted() -> String {
    match memlock::raise() {
        None => NOT_PERMITTED.to_owned(),
        Some(limit) => format!(
            "bpf(2) is not permitted, or RLIMIT_MEMLOCK of {} KiB is too low; try ulimit -l unlimited",
            limit >> 10
        ),
    }
}

/// The error of loading the program `name`, with the last line of the verifier's log.
pub(super) fn refusal(name: &str, error: ProgramError) -> anyhow::Error {
    match error {
        ProgramError::LoadError { io_error, .. } if is_denied(&io_error) => {
            anyhow!("the kernel refuses the BPF program {name}: {}", not_permitted())
        }
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            log::debug!("verifier log of {name}:\n{log}");
            match last_words(&log) {
                Some(words) => anyhow!("the kernel refuses the BPF program {name}: {io_error} ({words})"),
                None => anyhow!("the kernel refuses the BPF program {name}: {io_error}"),
            }
        }
        other => anyhow!(other).context(format!("cannot load the BPF program {name}")),
    }
}

/// `error` and its causes in one line. A cause that only repeats the text before it is left out.
pub(super) fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.ends_with(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

/// `error` in one line, with a remedy if bpf(2) is not permitted.
#[must_use]
pub fn explained(error: &anyhow::Error) -> anyhow::Error {
    let line = one_line(error);
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    // aya's errors have the command (`bpf_map_freeze`) only in their text.
    if causes.any(is_denied) && line.contains("`bpf_") {
        anyhow!("{line}; {NOT_PERMITTED}")
    } else {
        anyhow!(line)
    }
}

/// Whether bpf(2) is forbidden for this process. Seccomp profiles return either error.
pub(super) fn is_denied(error: &io::Error) -> bool {
    is_one_of(error, &[Errno::PERM, Errno::NOSYS])
}

/// Whether `error` is one of `errnos`.
pub(super) fn is_one_of(error: &io::Error, errnos: &[Errno]) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| errnos.contains(&errno))
}

/// The reason in a verifier log: the last line that is not statistics.
fn last_words(log: &str) -> Option<&str> {
    log.lines().rev().map(str::trim).find(|line| {
        let statistics = ["processed ", "verification time ", "stack depth "];
        !line.is_empty() && !statistics.iter().any(|start| line.starts_with(start))
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use aya::maps::MapError;
    use aya::sys::SyscallError;

    use super::{NOT_PERMITTED, explained, last_words, one_line};

    #[test]
    fn repeated_causes_are_left_out() {
        let error = anyhow::anyhow!("no room")
            .context("map error: no room")
            .context("cannot start");
        assert_eq!(one_line(&error), "cannot start: map error: no room");
    }

    #[test]
    fn only_permission_errors_get_the_remedy() {
        let error = |number| {
            let io_error = io::Error::from_raw_os_error(number);
            let call = SyscallError {
                call: "bpf_map_freeze",
                io_error,
            };
            anyhow::Error::new(MapError::SyscallError(call)).context("map A")
        };
        assert!(explained(&error(libc::EPERM)).to_string().ends_with(NOT_PERMITTED));
        let full = explained(&error(libc::ENOMEM)).to_string();
        assert!(
            full.starts_with("map A: `bpf_map_freeze` failed: Cannot allocate memory") && !full.contains(NOT_PERMITTED)
        );
    }

    #[test]
    fn the_reason_is_before_the_statistics() {
        let log = "0: (bf) r6 = r1\nunknown func bpf_sk_storage_get#107\nverification time 41 usec\nstack depth 0\n\
            processed 9 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0\n";
        assert_eq!(last_words(log), Some("unknown func bpf_sk_storage_get#107"));
        assert_eq!(last_words("processed 9 insns\n"), None);
        assert_eq!(last_words(""), None);
    }
}
