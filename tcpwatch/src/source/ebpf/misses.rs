//! Reads how many runs of a program the kernel skipped, from its fdinfo (aya has no accessor).

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};

use anyhow::{Context, Result};

/// Reads `recursion_misses` of the program `fd`; `None` if the kernel does not have it (before Linux 5.12).
///
/// # Errors
/// One line: /proc does not exist or is hidden.
pub(super) fn read(fd: BorrowedFd<'_>) -> Result<Option<u64>> {
    let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
    let text = fs::read_to_string(path).context("cannot read /proc/self/fdinfo")?;
    Ok(parse(&text))
}

/// Parses the line `recursion_misses:\t12`.
fn parse(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_line_is_found_among_others() {
        assert_eq!(
            super::parse("pos:\t0\nprog_id:\t7\nrecursion_misses:\t12\nverified_insns:\t9\n"),
            Some(12)
        );
        assert_eq!(super::parse("pos:\t0\n"), None);
    }
}
