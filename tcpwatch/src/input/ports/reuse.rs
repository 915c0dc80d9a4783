//! How long TIME_WAIT keeps a port from connect(2).

use std::net::IpAddr;

use super::TIME_WAIT_S;

/// [`TIME_WAIT_S`] in ms.
pub const TIME_WAIT_MS: u32 = 60_000;

const _: () = assert!(TIME_WAIT_MS as usize == TIME_WAIT_S * 1000);

/// `tcp_tw_reuse_delay` before there was such a setting (Linux 6.14), ms.
const DELAY_MS: u32 = 1000;

/// `tcp_tw_reuse` and `tcp_tw_reuse_delay` (ip-sysctl.rst), as `tcp_twsk_unique` (`net/ipv4/tcp_ipv4.c`) has them.
///
/// A port may be taken again, to the same destination, that long after it entered TIME_WAIT, where the connection before used
/// timestamps. Whether the other side does is not known here, and assumed: it is the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwReuse {
    /// The connections that may reuse a port.
    pub allowed: Allowed,
    /// Whether timestamps are on here (`tcp_timestamps`): without them no connection may.
    pub timestamps: bool,
    /// After how long, ms.
    pub delay_ms: u32,
}

/// Where connect(2) may take a port that TIME_WAIT holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// 0.
    Never,
    /// 1.
    Always,
    /// 2, the default since Linux 4.18: where an address is a loopback one.
    Loopback,
}

impl TwReuse {
    /// Reads `tcp_tw_reuse`, `tcp_timestamps` and, where the kernel has it, `tcp_tw_reuse_delay`; `None` where one is not understood.
    #[must_use]
    pub fn parse(tw_reuse: &str, timestamps: &str, delay: Option<&str>) -> Option<Self> {
        let number = |text: &str| text.trim().parse::<u8>().ok();
        let allowed = match number(tw_reuse)? {
            0 => Allowed::Never,
            1 => Allowed::Always,
            2 => Allowed::Loopback,
            _ => return None,
        };
        Some(Self {
            allowed,
            timestamps: number(timestamps)? != 0,
            delay_ms: delay.map_or(Some(DELAY_MS), |text| text.trim().parse().ok())?,
        })
    }

    /// Whether `tcp_tw_reuse` lets connect(2) take a port that TIME_WAIT holds, between these addresses.
    ///
    /// A connection to an address of this host that is no loopback one passes `lo` too, but the kernel asks for the address,
    /// or for a socket bound to `lo`, and the latter is not known here.
    #[must_use]
    pub fn is_allowed(self, source: IpAddr, destination: IpAddr) -> bool {
        // An IPv4-mapped loopback address is one too.
        let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
        match self.allowed {
            Allowed::Never => false,
            Allowed::Always => true,
            Allowed::Loopback => is_loopback(source) || is_loopback(destination),
        }
    }

    /// How long TIME_WAIT keeps a port from a connection between these addresses, ms.
    #[must_use]
    pub fn held_ms(self, source: IpAddr, destination: IpAddr) -> u32 {
        if self.timestamps && self.is_allowed(source, destination) {
            self.delay_ms.min(TIME_WAIT_MS)
        } else {
            TIME_WAIT_MS
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read() {
        let parse = |tw_reuse, timestamps| TwReuse::parse(tw_reuse, timestamps, None).map(|reuse| reuse.allowed);
        assert_eq!(parse("0\n", "1\n"), Some(Allowed::Never));
        assert_eq!(parse("1", "2"), Some(Allowed::Always));
        assert_eq!(parse("2", "1"), Some(Allowed::Loopback));
        assert_eq!(parse("2", "0"), Some(Allowed::Loopback));
        let timestamps = |text| TwReuse::parse("1", text, None).map(|reuse| reuse.timestamps);
        assert_eq!(["0", "1", "2"].map(timestamps), [Some(false), Some(true), Some(true)]);
        for (tw_reuse, timestamps) in [("", "1"), ("1", ""), ("3", "1"), ("3", "0"), ("-1", "1"), ("1 1", "1")] {
            assert_eq!(parse(tw_reuse, timestamps), None);
        }
        let delay = |text| TwReuse::parse("1", "1", text).map(|reuse| reuse.delay_ms);
        assert_eq!(delay(None), Some(1000));
        assert_eq!(delay(Some("2500\n")), Some(2500));
        assert_eq!((delay(Some("")), delay(Some("-1"))), (None, None));
    }

    #[test]
    fn the_default_holds_for_loopback_alone() {
        let held_ms = |allowed, source: &str, destination: &str| {
            let reuse = TwReuse {
                allowed,
                timestamps: true,
                delay_ms: 2500,
            };
            let [source, destination] = [source, destination].map(|address| address.parse().unwrap());
            let without = TwReuse {
                timestamps: false,
                ..reuse
            };
            assert_eq!(
                without.held_ms(source, destination),
                TIME_WAIT_MS,
                "it needs timestamps"
            );
            reuse.held_ms(source, destination)
        };
        for (source, destination) in [
            ("127.0.0.1", "127.0.0.1"),
            ("10.0.0.1", "127.8.0.1"),
            ("::1", "::1"),
            ("::ffff:127.0.0.1", "::ffff:10.0.0.1"),
        ] {
            assert_eq!(held_ms(Allowed::Loopback, source, destination), 2500);
            assert_eq!(held_ms(Allowed::Never, source, destination), 60_000);
        }
        assert_eq!(held_ms(Allowed::Loopback, "10.0.0.1", "10.0.0.2"), 60_000);
        assert_eq!(held_ms(Allowed::Loopback, "fe80::1", "::ffff:10.0.0.2"), 60_000);
        assert_eq!(held_ms(Allowed::Always, "10.0.0.1", "10.0.0.2"), 2500);
    }
}
