//! The kernel's release, `uname -r`.

/// Major and minor number of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u32, pub u32);

impl Release {
    /// First release in which a `tp_btf` program never interrupts itself on one CPU.
    pub const NO_NESTING: Self = Self(6, 1);
    /// First release in which a thread may be preempted inside a tracepoint.
    pub const PREEMPTIBLE_TRACEPOINTS: Self = Self(7, 0);
    /// First release that counts skipped runs of classic tracepoint programs.
    pub const COUNTS_CLASSIC_MISSES: Self = Self(6, 7);
    /// First release whose `Tcp:CurrEstab` counts sockets in `CLOSE_WAIT`, as RFC 1213 says (commit a46d0ea5c942); earlier ones may have
    /// the change too.
    pub const CURR_ESTAB_HAS_CLOSE_WAIT: Self = Self(6, 10);
    /// First release whose `TcpExt:TW` and `TWKilled` count entries into TIME_WAIT; earlier ones count expiries.
    pub const TW_COUNTS_ENTRIES: Self = Self(5, 18);

    /// Parses a release such as `6.18.44-generic`; `None` if `text` is not a release.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.trim().split(|c: char| !c.is_ascii_digit());
        Some(Self(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::Release;

    #[test]
    fn releases_compare_by_number() {
        assert_eq!(Release::parse("6.18.44-fc-v595\n"), Some(Release(6, 18)));
        assert_eq!(Release::parse("5.8"), Some(Release(5, 8)));
        for odd in ["odd", "", "6", "v6.1", "-1.2", "99999999999.1"] {
            assert_eq!(Release::parse(odd), None, "{odd}");
        }
        assert!(Release(5, 15) > Release(5, 8) && Release(6, 1) > Release::TW_COUNTS_ENTRIES);
    }
}
