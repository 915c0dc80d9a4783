//! Whether connect(2) may take a port that TIME_WAIT still holds.

use std::net::IpAddr;

/// `tcp_tw_reuse` (ip-sysctl.rst), as `tcp_twsk_unique` (`net/ipv4/tcp_ipv4.c`) has it.
///
/// A port may be taken again a second after it entered TIME_WAIT, where the connection before used timestamps. Whether the
/// other side does is not known here, and it is taken to: everyone does by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TwReuse {
    /// 0, or timestamps are off on this side.
    Never,
    /// 1.
    Always,
    /// 2, the default since Linux 4.19: where an address is a loopback one.
    Loopback,
}

impl TwReuse {
    /// Reads `tcp_tw_reuse` and `tcp_timestamps`; `None` where either is not understood.
    #[must_use]
    pub fn parse(tw_reuse: &str, timestamps: &str) -> Option<Self> {
        let number = |text: &str| text.trim().parse::<u8>().ok();
        match (number(tw_reuse)?, number(timestamps)?) {
            (0, _) | (1 | 2, 0) => Some(Self::Never),
            (1, _) => Some(Self::Always),
            (2, _) => Some(Self::Loopback),
            _ => None,
        }
    }

    /// Whether it holds for connections between these addresses.
    ///
    /// A connection to an address of this host that is no loopback one passes `lo` too, but the kernel asks for the address,
    /// or for a socket bound to `lo`, and the latter is not known here.
    #[must_use]
    pub fn holds_between(self, source: IpAddr, destination: IpAddr) -> bool {
        // An IPv4-mapped loopback address is one too.
        let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Loopback => is_loopback(source) || is_loopback(destination),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read() {
        assert_eq!(TwReuse::parse("0\n", "1\n"), Some(TwReuse::Never));
        assert_eq!(TwReuse::parse("1", "2"), Some(TwReuse::Always));
        assert_eq!(TwReuse::parse("2", "1"), Some(TwReuse::Loopback));
        assert_eq!(TwReuse::parse("2", "0"), Some(TwReuse::Never));
        for (tw_reuse, timestamps) in [("", "1"), ("1", ""), ("3", "1"), ("3", "0"), ("-1", "1"), ("1 1", "1")] {
            assert_eq!(TwReuse::parse(tw_reuse, timestamps), None);
        }
    }

    #[test]
    fn the_default_holds_for_loopback_alone() {
        let holds = |reuse: TwReuse, source: &str, destination: &str| {
            reuse.holds_between(source.parse().unwrap(), destination.parse().unwrap())
        };
        for (source, destination) in [
            ("127.0.0.1", "127.0.0.1"),
            ("10.0.0.1", "127.8.0.1"),
            ("::1", "::1"),
            ("::ffff:127.0.0.1", "::ffff:10.0.0.1"),
        ] {
            assert!(holds(TwReuse::Loopback, source, destination));
            assert!(!holds(TwReuse::Never, source, destination));
        }
        assert!(!holds(TwReuse::Loopback, "10.0.0.1", "10.0.0.2"));
        assert!(!holds(TwReuse::Loopback, "fe80::1", "::ffff:10.0.0.2"));
        assert!(holds(TwReuse::Always, "10.0.0.1", "10.0.0.2"));
    }
}
