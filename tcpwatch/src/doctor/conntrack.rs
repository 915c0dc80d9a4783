//! Connection tracking, where the host has it: a full table drops packets of new connections.

use super::format::{reaches, since};
use super::judgement::Judgement;
use super::negligible::is_rare;
use crate::input::host::HostFrame;
use crate::input::namespace::Scope;
use crate::input::setting::Setting;
use crate::model::format::{several, thousands};

/// Of the table, the part from which it is nearly full, percent.
const NEAR: u64 = 80;
/// The part from which it is full within minutes, percent.
const FULL: u64 = 95;
/// No lower limit is suggested where a table was full: the default is at least as large on a machine of 1 GiB.
const FEW: u64 = 65_536;
/// Bytes of an entry, about (`struct nf_conn` and its extensions).
const ENTRY_BYTES: u64 = 320;

/// `net.netfilter.nf_conntrack_max`.
pub(super) fn judge(frame: &HostFrame) -> Judgement {
    let conntrack = &frame.conntrack;
    // Without it connections are not tracked here, and 0 is no limit.
    let limit = frame.number(Setting::NfConntrackMax).filter(|&limit| limit > 0);
    let Some((limit, count)) = limit.zip(conntrack.count) else {
        return Judgement::fine();
    };
    let whose = if frame.first || frame.scope == Scope::Copied {
        ""
    } else {
        " in this namespace, each of which may have as many"
    };
    let mut words = format!("{} of {} entries are in use{whose}", thousands(count), thousands(limit));
    let (dropped, early) = (conntrack.dropped, conntrack.early_dropped);
    if let Some(dropped) = dropped {
        let early = early.filter(|&early| early > 0).map_or_else(String::new, |early| {
            format!(
                ", {} thrown out early to make room",
                several(early, "entry was", "entries were")
            )
        });
        words = format!(
            "{words}; {} dropped{early} {}",
            several(dropped, "packet was", "packets were"),
            since(frame)
        );
    }
    // Without a time it is not known whether that is much.
    let happens = |count: Option<u64>| {
        count.is_some_and(|count| count > 0 && !is_rare(frame, count, &[])) && frame.counted_s().is_some()
    };
    let happened = [dropped, early].into_iter().flatten().any(|count| count > 0);
    let verdict = if reaches(count, limit, FULL) {
        higher_limit_verdict(frame, limit, Judgement::critical(words))
    } else if reaches(count, limit, NEAR) {
        higher_limit_verdict(frame, limit, Judgement::warning(words))
    } else if happens(early) {
        higher_limit_verdict(
            frame,
            limit,
            Judgement::warning(format!("{words}, which happens where it is full alone")),
        )
    } else if happens(dropped) {
        Judgement::warning(format!("{words}, because it was full or for what was wrong with them"))
            .step("see which: dmesg shows \"nf_conntrack: table full, dropping packet\" where it was full")
    } else if happened {
        Judgement::note(format!(
            "{words}; it is not nearly full now, and nothing is recommended"
        ))
    } else {
        Judgement::fine()
    };
    verdict
        .evidence("count", count)
        .evidence("dropped", dropped)
        .evidence("early_dropped", early)
}

/// The same with what more entries take.
fn higher_limit_verdict(frame: &HostFrame, limit: u64, verdict: Judgement) -> Judgement {
    let to = limit.saturating_mul(2).max(FEW);
    verdict.with_set_command(
        frame,
        Setting::NfConntrackMax,
        &to.to_string(),
        &format!(
            "up to {} MiB of kernel memory, and longer look-ups unless nf_conntrack_buckets grows with it",
            thousands(to.saturating_mul(ENTRY_BYTES).div_ceil(1 << 20))
        ),
    )
}
