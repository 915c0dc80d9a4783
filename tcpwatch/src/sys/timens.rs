//! The time namespace of tcpwatch (`time_namespaces(7)`).

use std::fs;
use std::path::Path;

/// How far `CLOCK_MONOTONIC` of this process is ahead of the kernel's, ns, from /proc below `root`; 0 if the kernel has no time
/// namespaces.
///
/// The file shows the namespace for children. It is also the one of this process, which never calls `unshare(CLONE_NEWTIME)`.
#[must_use]
pub fn monotonic_offset_ns(root: &Path) -> i64 {
    let text = fs::read_to_string(root.join("proc/self/timens_offsets")).unwrap_or_default();
    parse(&text, "monotonic").unwrap_or(0)
}

/// The same for `CLOCK_BOOTTIME`, the clock of process start times in /proc.
#[must_use]
pub fn boottime_offset_ns(root: &Path) -> i64 {
    let text = fs::read_to_string(root.join("proc/self/timens_offsets")).unwrap_or_default();
    parse(&text, "boottime").unwrap_or(0)
}

/// Parses the line `CLOCK -86400 500`: seconds and nanoseconds.
fn parse(text: &str, clock: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix(clock))?;
    let mut words = line.split_ascii_whitespace();
    let seconds: i64 = words.next()?.parse().ok()?;
    let nanoseconds: i64 = words.next()?.parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_nanoseconds_add_up() {
        let file = |monotonic: &str| format!("monotonic  {monotonic}\nboottime            7         0\n");
        assert_eq!(parse(&file("        0         0"), "monotonic"), Some(0));
        assert_eq!(
            parse(&file("   -86400       500"), "monotonic"),
            Some(-86_399_999_999_500)
        );
        assert_eq!(parse(&file("       1 999999999"), "monotonic"), Some(1_999_999_999));
        assert_eq!(parse("boottime            7         0\n", "monotonic"), None);
        assert_eq!(parse(&file("0 0"), "boottime"), Some(7_000_000_000));
        assert_eq!(
            parse(&file("9223372036 0"), "monotonic"),
            Some(9_223_372_036_000_000_000)
        );
        assert_eq!(parse(&file("92233720368 0"), "monotonic"), None);
    }

    #[test]
    fn without_the_file_there_is_no_offset() {
        assert_eq!(monotonic_offset_ns(tempfile::tempdir().unwrap().path()), 0);
    }
}
