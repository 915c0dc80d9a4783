//! Numbers and counters in words.

use crate::detect::finding::Value;
use crate::input::counter::Counter;
use crate::input::escaped::Escaped;
use crate::input::host::HostFrame;
use crate::input::setting_defaults::DefaultValue;
use crate::model::format::thousands;

const HOUR: u64 = 3600;
pub(super) const DAY: u64 = 24 * HOUR;

/// Since when the counters count.
pub(super) const fn since(frame: &HostFrame) -> &'static str {
    if frame.first {
        "since boot"
    } else {
        "since this namespace began"
    }
}

/// `ListenOverflows 1,204 since boot (1.2 an hour)`, `ListenOverflows 0 since boot`, `ListenOverflows is unknown`.
pub(super) fn counter_text(frame: &HostFrame, counter: Counter) -> String {
    let name = counter.name().1;
    match frame.counter(counter) {
        None => format!("{name} is unknown"),
        Some(count) => format!("{name} {} {}{}", thousands(count), since(frame), rate(frame, count)),
    }
}

/// ` (1.2 an hour)`; empty if it is unknown or less than one a day.
pub(super) fn rate(frame: &HostFrame, count: u64) -> String {
    let Some(seconds) = frame.counted_s().filter(|&seconds| seconds > 0) else {
        return String::new();
    };
    for (unit, word) in [(HOUR, "an hour"), (DAY, "a day")] {
        let tenths = u128::from(count) * 10 * u128::from(unit) / u128::from(seconds);
        let Ok(tenths) = u64::try_from(tenths) else { continue };
        // A time shorter than the unit does not show how many there are in one.
        if tenths >= 10 && seconds >= unit {
            return if tenths < 100 {
                format!(" ({}.{} {word})", tenths / 10, tenths % 10)
            } else {
                format!(" ({} {word})", thousands(tenths / 10))
            };
        }
    }
    String::new()
}

/// ` (default 60)`, beside `value`; ` (default)` if it is the value, and empty if there is no default.
pub(super) fn beside(default: DefaultValue, value: Option<&str>) -> String {
    let is = match default {
        DefaultValue::Is(is) => is,
        DefaultValue::ByRelease => return " (default unknown)".into(),
        DefaultValue::ByMemory => return " (default by memory)".into(),
        DefaultValue::Gone => return String::new(),
    };
    match is {
        is if value == Some(is) => " (default)".into(),
        "" => " (default empty)".into(),
        is => format!(" (default {is})"),
    }
}

/// `text` of a setting, escaped, and cut where it is long.
pub(super) fn shortened(text: &str) -> String {
    const LONG: usize = 40;
    match text.char_indices().nth(LONG) {
        Some((end, _)) => format!("{}…", Escaped(&text.as_bytes()[..end])),
        None => Escaped(text.as_bytes()).to_string(),
    }
}

/// `text` of a setting as evidence: whole where it may be what a kernel shows.
pub(super) fn value(text: &str) -> Value {
    if let Ok(number) = text.parse() {
        return Value::Count(number);
    }
    let is_list = text.bytes().all(|byte| byte.is_ascii_digit() || b" ,-".contains(&byte));
    if is_list {
        text.into()
    } else {
        shortened(text).as_str().into()
    }
}

/// A default as evidence.
pub(super) fn default_value(default: DefaultValue) -> Value {
    match default {
        DefaultValue::Is(default) => value(default),
        DefaultValue::ByMemory | DefaultValue::ByRelease | DefaultValue::Gone => Value::Unknown,
    }
}

/// A length of `seconds`: `127 s`, `15 min`, `2 h 11 min`.
pub(super) fn long(seconds: u64) -> String {
    match (seconds / HOUR, seconds % HOUR / 60) {
        (0, 0..=2) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

/// `part` of `whole` in percent: `97 %`, or `less than 1 %`.
pub(super) fn in_percent(part: u64, whole: u64) -> String {
    match u128::from(part) * 100 / u128::from(whole.max(1)) {
        0 if part > 0 => "less than 1 %".into(),
        percent => format!("{percent} %"),
    }
}

/// Whether `part` is at least so many `percent` of `whole`.
pub(super) fn reaches(part: u64, whole: u64, percent: u64) -> bool {
    u128::from(part) * 100 >= u128::from(whole) * u128::from(percent)
}
