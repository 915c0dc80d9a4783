//! Why the kernel refuses a program, in one line.

use anyhow::anyhow;
use aya::programs::ProgramError;

/// The error of loading the program `name`, with the last words of the verifier.
pub(super) fn refusal(name: &str, error: ProgramError) -> anyhow::Error {
    match error {
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

/// The reason in a verifier log: its last line that is no statistics.
fn last_words(log: &str) -> Option<&str> {
    log.lines().rev().map(str::trim).find(|line| {
        let statistics = ["processed ", "verification time ", "stack depth "];
        !line.is_empty() && !statistics.iter().any(|start| line.starts_with(start))
    })
}

#[cfg(test)]
mod tests {
    use super::last_words;

    #[test]
    fn the_reason_is_before_the_statistics() {
        let log = "0: (bf) r6 = r1\nunknown func bpf_sk_storage_get#107\nverification time 41 usec\nstack depth 0\n\
            processed 9 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0\n";
        assert_eq!(last_words(log), Some("unknown func bpf_sk_storage_get#107"));
        assert_eq!(last_words("processed 9 insns\n"), None);
        assert_eq!(last_words(""), None);
    }
}
