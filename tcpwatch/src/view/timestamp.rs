//! Formats times. A [`Stamp`] formats the second once for all events in it, which is faster.

use std::fmt::Write;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

const SECOND: i64 = 1_000_000_000;

/// Formats Unix times in one format.
#[derive(Debug)]
pub struct Stamp {
    format: Format,
    /// The second at the beginning of `text`.
    second: i64,
    text: String,
    /// Length of the second in `text`, bytes.
    prefix: usize,
}

#[derive(Debug)]
enum Format {
    /// `2026-11-22T14:02:12.104331000Z`
    Rfc3339,
    /// `14:02:12.104331`
    Local(TimeZone),
}

impl Stamp {
    /// RFC 3339 with nanoseconds, UTC.
    #[must_use]
    pub fn rfc3339() -> Self {
        Self::new(Format::Rfc3339)
    }

    /// Local time of day with microseconds.
    #[must_use]
    pub fn local(zone: TimeZone) -> Self {
        Self::new(Format::Local(zone))
    }

    fn new(format: Format) -> Self {
        Self {
            format,
            second: i64::MIN,
            text: String::with_capacity(32),
            prefix: 0,
        }
    }

    /// Formats `unix_ns`, a time in ns since the Unix epoch.
    pub fn text(&mut self, unix_ns: i64) -> &str {
        let second = unix_ns.div_euclid(SECOND);
        if second != self.second {
            self.text.clear();
            let time = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
            // Writing to a string cannot fail.
            let _ = match &self.format {
                Format::Rfc3339 => write!(self.text, "{}", time.strftime("%Y-%m-%dT%H:%M:%S.")),
                Format::Local(zone) => {
                    write!(self.text, "{}", Zoned::new(time, zone.clone()).strftime("%H:%M:%S."))
                }
            };
            self.second = second;
            self.prefix = self.text.len();
        }
        self.text.truncate(self.prefix);
        let nanoseconds = unix_ns.rem_euclid(SECOND);
        let _ = match self.format {
            Format::Rfc3339 => write!(self.text, "{nanoseconds:09}Z"),
            Format::Local(_) => write!(self.text, "{:06}", nanoseconds / 1000),
        };
        &self.text
    }
}

/// Formats `time` as RFC 3339 with nanoseconds, UTC.
#[must_use]
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_one_second_and_of_different_seconds_are_formatted() {
        let mut stamp = Stamp::rfc3339();
        assert_eq!(stamp.text(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(stamp.text(1_000_000_007), "1970-01-01T00:00:01.000000007Z");
        assert_eq!(stamp.text(1_999_999_999), "1970-01-01T00:00:01.999999999Z");
        assert_eq!(stamp.text(-1), "1969-12-31T23:59:59.999999999Z");
        let mut local = Stamp::local(TimeZone::UTC);
        assert_eq!(local.text(3_600_104_331_999), "01:00:00.104331");
    }
}
