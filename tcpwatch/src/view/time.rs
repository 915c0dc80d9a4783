//! Times as text, quickly: of a thousand events in a second, the second is written once.

use std::fmt::Write;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

const SECOND: i64 = 1_000_000_000;

/// Writes Unix times in one form.
#[derive(Debug)]
pub struct Stamp {
    form: Form,
    second: i64,
    text: String,
    prefix: usize,
}

#[derive(Debug)]
enum Form {
    /// `2026-11-22T14:02:12.104331000Z`
    Rfc3339,
    /// `14:02:12.104331`
    Local(TimeZone),
}

impl Stamp {
    /// RFC 3339 with nanoseconds, UTC.
    #[must_use]
    pub fn rfc3339() -> Self {
        Self::new(Form::Rfc3339)
    }

    /// Local time of day with microseconds.
    #[must_use]
    pub fn local(zone: TimeZone) -> Self {
        Self::new(Form::Local(zone))
    }

    fn new(form: Form) -> Self {
        Self {
            form,
            second: i64::MIN,
            text: String::with_capacity(32),
            prefix: 0,
        }
    }

    /// The time `unix_ns` (ns since the epoch) as text.
    pub fn text(&mut self, unix_ns: i64) -> &str {
        let second = unix_ns.div_euclid(SECOND);
        if second != self.second {
            self.text.clear();
            let time = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
            // Writing to a string cannot fail.
            let _ = match &self.form {
                Form::Rfc3339 => write!(self.text, "{}", time.strftime("%Y-%m-%dT%H:%M:%S.")),
                Form::Local(zone) => {
                    write!(self.text, "{}", Zoned::new(time, zone.clone()).strftime("%H:%M:%S."))
                }
            };
            self.second = second;
            self.prefix = self.text.len();
        }
        self.text.truncate(self.prefix);
        let nanoseconds = unix_ns.rem_euclid(SECOND);
        let _ = match self.form {
            Form::Rfc3339 => write!(self.text, "{nanoseconds:09}Z"),
            Form::Local(_) => write!(self.text, "{:06}", nanoseconds / 1000),
        };
        &self.text
    }
}

/// `time` in RFC 3339 with nanoseconds, UTC.
#[must_use]
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_change_and_digits_stay() {
        let mut stamp = Stamp::rfc3339();
        assert_eq!(stamp.text(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(stamp.text(1_000_000_007), "1970-01-01T00:00:01.000000007Z");
        assert_eq!(stamp.text(1_999_999_999), "1970-01-01T00:00:01.999999999Z");
        assert_eq!(stamp.text(-1), "1969-12-31T23:59:59.999999999Z");
        let mut local = Stamp::local(TimeZone::UTC);
        assert_eq!(local.text(3_600_104_331_999), "01:00:00.104331");
    }
}
