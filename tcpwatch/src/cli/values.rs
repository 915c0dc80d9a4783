//! Option values with a syntax: times, sizes and address ranges.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

/// The longest accepted time: a year. Times in ns as u64 overflow after 584 years.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// A time: `1`, `0.5` (seconds), `500ms`, `10s`, `2m`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval(pub Duration);

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || format!("'{text}' is not a time; try 1, 0.5, 500ms, 10s, 2m or 1h");
        let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let seconds = match unit {
            "" | "s" => 1.0,
            "ms" => 1e-3,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(bad()),
        };
        let number: f64 = number.parse().map_err(|_| bad())?;
        match Duration::try_from_secs_f64(number * seconds) {
            Ok(time) if time > LONGEST => Err(format!("'{text}' is too long; the maximum is 8760h")),
            Ok(time) if time >= Duration::from_millis(10) => Ok(Self(time)),
            Ok(_) => Err(format!("'{text}' is too short; the minimum is 10ms")),
            Err(_) => Err(bad()),
        }
    }
}

/// Size of the ring buffer in bytes: a power of two from 4K to 1G, such as `64K` or `16M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u32);

impl Default for ByteSize {
    /// 16 MiB: room for 123,000 transitions of 128 bytes and an 8-byte header.
    fn default() -> Self {
        Self(16 << 20)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || format!("'{text}' is not a ring size; try a power of two from 4K to 1G, such as 64K or 16M");
        match u32::try_from(bytes(text).ok_or_else(bad)?) {
            Ok(bytes) if bytes.is_power_of_two() && (4096..=1 << 30).contains(&bytes) => Ok(Self(bytes)),
            _ => Err(bad()),
        }
    }
}

/// The bytes of `64K`, `16M`, `16MiB` or `4096`.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim_end_matches(['i', 'B']);
    let (number, unit) = match text.strip_suffix(['K', 'k', 'M', 'm', 'G', 'g']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, ""),
    };
    let unit = match unit {
        "K" | "k" => 1 << 10,
        "M" | "m" => 1 << 20,
        "G" | "g" => 1 << 30,
        _ => 1,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// Parses a size of 1 MiB or more: `500M`, `2G`.
///
/// # Errors
/// One line with an example.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let bytes = bytes(text).filter(|&bytes| bytes >= 1 << 20);
    bytes.ok_or_else(|| format!("'{text}' is not a size of 1M or more; try 500M or 2G"))
}

/// Parses an address range such as `10.0.0.0/8`. A bare address is a range of one address.
///
/// # Errors
/// One line with an example.
pub fn parse_range(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map(|range| range.trunc())
        .map_err(|_| format!("'{text}' is not an address range; try 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32"))
}

/// Parses how many times as fast as the run a recording is shown: `1`, `0.5`, `100`.
///
/// # Errors
/// One line with an example.
pub fn parse_speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed| (0.001..=1e6).contains(speed));
    speed.ok_or_else(|| format!("'{text}' is not a speed from 0.001 to 1000000; try 1 or 10"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_without_a_unit_are_seconds() {
        let millis = |text: &str| text.parse::<Interval>().map(|time| time.0.as_millis());
        assert_eq!(millis("1"), Ok(1000));
        assert_eq!(millis("0.2"), Ok(200));
        assert_eq!(millis("500ms"), Ok(500));
        assert_eq!(millis("2m"), Ok(120_000));
        assert_eq!(millis("8760h"), Ok(31_536_000_000));
        for bad in ["", "s", "-1", "1d", "nan", "inf", "1e300", "1e18", "8761h", "0"] {
            assert!(millis(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ring_sizes_are_powers_of_two() {
        let bytes = |text: &str| text.parse::<ByteSize>().map(|size| size.0);
        assert_eq!(bytes("64K"), Ok(65536));
        assert_eq!(bytes("16M"), Ok(16 << 20));
        assert_eq!(bytes("16MiB"), Ok(16 << 20));
        assert_eq!(bytes("4096"), Ok(4096));
        for bad in ["", "K", "3M", "1K", "4G", "x", "-4K"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(parse_size("500M"), Ok(500 << 20));
        assert_eq!(parse_size("2GiB"), Ok(2 << 30));
        assert_eq!(parse_size("1048576"), Ok(1 << 20));
        for bad in ["", "M", "1K", "-1M", "x", "99999999999999G"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_drop_host_bits_and_take_bare_addresses() {
        assert_eq!(
            parse_range("10.1.2.3/8").map(|range| range.to_string()),
            Ok("10.0.0.0/8".into())
        );
        assert_eq!(parse_range("::1").map(|range| range.to_string()), Ok("::1/128".into()));
        assert!(parse_range("10.0.0.0/33").is_err());
    }
}
