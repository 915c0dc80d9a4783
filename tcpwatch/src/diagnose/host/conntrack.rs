//! Connection tracking, where the host has it: a full table drops packets of new connections.

use super::verdict::Verdict;
use super::words::since;
use crate::diagnose::finding::Severity;
use crate::explain::setting::Setting;
use crate::model::host::HostFrame;
use crate::model::number::thousands;

/// Of the table, the part from which it is nearly full, percent.
const NEAR: u64 = 80;
/// The part from which it is full within minutes, percent.
const FULL: u64 = 95;
/// Bytes of an entry, about (`struct nf_conn` and its extensions).
const ENTRY_BYTES: u64 = 320;

/// `net.netfilter.nf_conntrack_max`.
pub(super) fn judge(frame: &HostFrame) -> Verdict {
    let conntrack = &frame.conntrack;
    let Some(limit) = frame.number(Setting::NfConntrackMax) else {
        return Verdict::fine("connections are not tracked here");
    };
    if limit == 0 {
        return Verdict::fine("connections are tracked without a limit");
    }
    let Some(count) = conntrack.count else {
        return Verdict::fine("how many connections are tracked is unknown");
    };
    let percent = u128::from(count) * 100 / u128::from(limit.max(1));
    let lost = [conntrack.dropped, conntrack.early_dropped]
        .into_iter()
        .flatten()
        .any(|packets| packets > 0);
    let mut words = format!("{} of {} entries are in use", thousands(count), thousands(limit));
    if let Some(dropped) = conntrack.dropped {
        words = format!("{words}; {} packets dropped {}", thousands(dropped), since(frame));
    }
    let verdict = if percent >= FULL.into() {
        Verdict::critical(words)
    } else if percent >= NEAR.into() || lost {
        Verdict::warning(words)
    } else {
        Verdict::fine(format!("{words}: nothing to gain"))
    };
    let verdict = if verdict.severity > Severity::Info {
        let to = limit.saturating_mul(2);
        verdict.set(
            frame,
            Setting::NfConntrackMax,
            &to.to_string(),
            &format!(
                "up to {} MiB of kernel memory, and longer look-ups unless nf_conntrack_buckets grows with it",
                thousands(to.saturating_mul(ENTRY_BYTES).div_ceil(1 << 20))
            ),
        )
    } else {
        verdict
    };
    verdict
        .evidence("count", count)
        .evidence("dropped", conntrack.dropped)
        .evidence("early_dropped", conntrack.early_dropped)
}
