//! The descriptors by which processes hold the sockets of a group, for people.

use std::fmt::Write as _;

use crate::model::format::thousands;
use crate::model::leaks::Group;

/// Ranges of descriptors shown at most.
const RANGES: usize = 8;
/// Of several processes that hold sockets by different descriptors, those shown.
const HOLDERS: usize = 2;

/// `: fds 17, 19-31, 40 (+396)`; of several holders the descriptors that all have, or those of the first. `None` where no socket has
/// one, or /proc was not scanned.
pub(super) fn descriptors(group: &Group, holders_known: bool) -> Option<String> {
    let not_kept = group.fds_left_out();
    match group.holders.as_slice() {
        [] if group.inodes.is_empty() || !holders_known => None,
        // It may be in another PID namespace, or hidden.
        [] => Some("; no visible process holds them".into()),
        [one] => Some(format!(": {}", ranges(&one.fds, not_kept))),
        [first, others @ ..] if not_kept == 0 && others.iter().all(|other| other.fds == first.fds) => Some(format!(
            ": {} in each of the {} processes that hold them",
            ranges(&first.fds, 0),
            thousands(group.holders.len() as u64)
        )),
        several => {
            let shown = several.iter().take(HOLDERS);
            let mut each: Vec<String> = shown
                .map(|holder| format!("{} {}", holder.process, ranges(&holder.fds, 0)))
                .collect();
            let more = several.len().saturating_sub(HOLDERS);
            if more > 0 {
                each.push(format!("{} more (-o json)", thousands(more as u64)));
            }
            Some(format!(": {}", each.join("; ")))
        }
    }
}

/// `fd 17`, `fds 17, 19-31, 40 (+396)`; `more` of them are not in `fds`, which are in order.
fn ranges(fds: &[u32], more: u64) -> String {
    let mut shown: Vec<[u32; 2]> = Vec::new();
    for &fd in fds {
        match shown.last_mut() {
            Some([_, last]) if last.checked_add(1) == Some(fd) => *last = fd,
            _ => shown.push([fd, fd]),
        }
    }
    let hidden = shown.split_off(shown.len().min(RANGES));
    let hidden: u64 = hidden.iter().map(|[first, last]| u64::from(last - first) + 1).sum();
    let words = shown.iter().map(|[first, last]| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first}-{last}"),
    });
    let mut text = format!(
        "{} {}",
        if fds.len() as u64 + more == 1 { "fd" } else { "fds" },
        words.collect::<Vec<_>>().join(", ")
    );
    if hidden + more > 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, " (+{})", thousands(hidden + more));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn descriptors_are_ranges() {
        assert_eq!(ranges(&[17], 0), "fd 17");
        assert_eq!(
            ranges(&[17, 19, 20, 21, 30, 31, 40], 356),
            "fds 17, 19-21, 30, 31, 40 (+356)"
        );
        let odd: Vec<u32> = (0..40).map(|fd| fd * 2).collect();
        assert_eq!(ranges(&odd, 1), "fds 0, 2, 4, 6, 8, 10, 12, 14 (+33)");
        assert_eq!(
            ranges(&[u32::MAX - 1, u32::MAX, u32::MAX], 0),
            "fds 4294967294, 4294967295, 4294967295"
        );
    }
}
