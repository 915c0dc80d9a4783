//! Which local ports connect(2) and bind(2) choose from.

use std::ops::RangeInclusive;

use super::bits::PortBits;

/// The ports of `ip_local_port_range` without those of `ip_local_reserved_ports` (ip-sysctl.rst).
///
/// connect(2) takes any of them (`__inet_hash_connect`), and so does bind(2) to port 0 (`inet_csk_find_open_port`). Sockets may
/// be given a range of their own (`IP_LOCAL_PORT_RANGE`), and ports that listeners hold are not taken either: neither is known
/// here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
    usable: PortBits,
}

impl PortRange {
    /// Reads the two settings: `32768\t60999`, and `8080,9148-9160` or nothing; `None` where either is not understood.
    #[must_use]
    pub fn parse(range: &str, reserved: &str) -> Option<Self> {
        let mut words = range.split_whitespace();
        let (first, last) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        if words.next().is_some() || first == 0 || first > last {
            return None;
        }
        let mut usable = PortBits::default();
        for port in first..=last {
            usable.insert(port);
        }
        for port in parse_list(reserved)?.into_iter().flatten() {
            usable.remove(port);
        }
        Some(Self { first, last, usable })
    }

    /// The range as it is set, reserved ports included.
    #[must_use]
    pub const fn bounds(&self) -> RangeInclusive<u16> {
        self.first..=self.last
    }

    /// The range of these bounds, with the ports that may be taken.
    pub(crate) const fn new(bounds: RangeInclusive<u16>, usable: PortBits) -> Self {
        Self {
            first: *bounds.start(),
            last: *bounds.end(),
            usable,
        }
    }

    /// The ports that may be taken.
    pub(crate) const fn usable_ports(&self) -> &PortBits {
        &self.usable
    }

    /// How many may be taken.
    #[must_use]
    pub fn usable(&self) -> u32 {
        self.usable.len()
    }

    /// Whether `port` may be taken.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.usable.contains(port)
    }
}

/// Ports and ranges of ports, as the kernel prints a bitmap (`proc_do_large_bitmap`); port 0 may be among them.
fn parse_list(text: &str) -> Option<Vec<RangeInclusive<u16>>> {
    let parts = text.trim().split(',').filter(|_| !text.trim().is_empty());
    let ranges = parts.map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last).then_some(first..=last)
    });
    ranges.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_from_first_to_last() {
        let ports = PortRange::parse("32768\t60999\n", "\n").unwrap();
        assert_eq!((ports.usable(), ports.bounds()), (28_232, 32_768..=60_999));
        assert!(ports.contains(32_768) && ports.contains(60_999));
        assert!(!ports.contains(32_767) && !ports.contains(61_000) && !ports.contains(0));
        assert_eq!(PortRange::parse("1 65535", "").unwrap().usable(), 65_535);
        assert_eq!(PortRange::parse("7 7", "").unwrap().usable(), 1);
    }

    #[test]
    fn reserved_ports_are_not_taken() {
        let ports = PortRange::parse("9000 9999", "0,8080,9148-9160,9155-9161,9999-65535\n").unwrap();
        assert_eq!(ports.usable(), 1000 - 14 - 1);
        assert!(ports.contains(9147) && !ports.contains(9148) && !ports.contains(9161) && ports.contains(9162));
        assert!(!ports.contains(9999));
        assert_eq!(PortRange::parse("9000 9999", "0-65535").unwrap().usable(), 0);
    }

    #[test]
    fn what_is_not_understood_is_unknown() {
        for range in [
            "",
            "\n",
            "32768",
            "32768 60999 1",
            "60999 32768",
            "0 5",
            "1 65536",
            "-1 5",
            "a b",
        ] {
            assert_eq!(PortRange::parse(range, ""), None, "{range}");
        }
        for reserved in ["x", "5-", "-5", "9-5", "5,,6", "5;6", "70000", "5 6"] {
            assert_eq!(PortRange::parse("1 9", reserved), None, "{reserved}");
        }
    }
}
