//! Formats numbers and lengths of time for people.

/// Stands for zero in tables, so that other numbers stand out.
pub const QUIET: &str = "·";

/// Stands for an unknown value.
pub const UNKNOWN: &str = "?";

/// Formats `number` with commas: `1,234,567`.
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats as [`thousands`] does, but zero as `·`.
#[must_use]
pub fn quiet(number: u64) -> String {
    if number == 0 { QUIET.into() } else { thousands(number) }
}

/// Formats `number` in at most four characters: `999`, `8.1k`, `81k`, `810k`, `8.1M`.
#[must_use]
pub fn short(number: u64) -> String {
    if number < 1000 {
        return number.to_string();
    }
    let mut unit = 1000;
    for letter in ['k', 'M', 'G', 'T', 'P'] {
        // Rounded before the unit is chosen, so that 999,950 is 1.0M and never 1000k.
        let tenths = divide_rounded(number, unit / 10);
        if tenths < 100 {
            return format!("{}.{}{letter}", tenths / 10, tenths % 10);
        }
        let whole = divide_rounded(number, unit);
        if whole < 1000 {
            return format!("{whole}{letter}");
        }
        unit *= 1000;
    }
    format!("{}E", divide_rounded(number, unit))
}

/// Formats as [`short`] does, but zero as `·`.
#[must_use]
pub fn quiet_short(number: u64) -> String {
    if number == 0 { QUIET.into() } else { short(number) }
}

/// Formats `number` in full if it fits `width` columns, else as [`short`] does.
#[must_use]
pub fn fit(number: u64, width: usize) -> String {
    let full = number.to_string();
    if full.len() <= width { full } else { short(number) }
}

/// `number / unit`, rounded to the nearest.
const fn divide_rounded(number: u64, unit: u64) -> u64 {
    number / unit + (number % unit >= unit.div_ceil(2)) as u64
}

/// Rate per second of `count` events in `interval_s` seconds, rounded; at least 1 if there was an event. 0 for an interval without
/// length.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is rounded"
)]
#[must_use]
pub fn per_second(count: u64, interval_s: f64) -> u64 {
    if interval_s <= 0.0 {
        return 0;
    }
    ((count as f64 / interval_s).round() as u64).max(u64::from(count > 0))
}

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// Formats a length of time: `850ns`, `1.1ms`, `21us`, `283ms`, `93s`, `2 h 14 m`, `3 d 2 h`.
#[must_use]
pub fn duration(ns: u64) -> String {
    for (unit, name, end) in [
        (1, "ns", MICROSECOND),
        (MICROSECOND, "us", MILLISECOND),
        (MILLISECOND, "ms", SECOND),
        (SECOND, "s", 120 * SECOND),
    ] {
        let tenths = divide_rounded(ns, (unit / 10).max(1));
        if unit > 1 && tenths < 100 {
            return format!("{}.{}{name}", tenths / 10, tenths % 10);
        }
        let whole = divide_rounded(ns, unit);
        if whole < end / unit {
            return format!("{whole}{name}");
        }
    }
    let seconds = divide_rounded(ns, SECOND);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match hours {
        0 => format!("{minutes} m {} s", seconds % 60),
        1..48 => format!("{hours} h {} m", minutes % 60),
        _ => format!("{} d {} h", hours / 24, hours % 24),
    }
}

/// Rounds `ns` to two digits of the units that [`duration`] prints: for a time that is not known better.
#[must_use]
pub fn two_digits(ns: u64) -> u64 {
    let unit = match ns / SECOND {
        0..120 => 1,
        120..3600 => SECOND,
        3600..172_800 => 60 * SECOND,
        _ => 3600 * SECOND,
    };
    let units = divide_rounded(ns, unit);
    let step = 10u64.pow(units.max(1).ilog10().saturating_sub(1));
    divide_rounded(units, step).saturating_mul(step).saturating_mul(unit)
}

/// Formats as [`duration`] does, in at most five characters below 100 days: without blanks, and long times in the larger unit
/// alone (`14m`).
#[must_use]
pub fn brief(ns: u64) -> String {
    let text = duration(ns);
    let mut parts = text.split(' ');
    let joined = text.replace(' ', "");
    match (parts.next(), parts.next()) {
        (Some(number), Some(unit)) if joined.len() > 5 => format!("{number}{unit}"),
        _ => joined,
    }
}

/// Formats a number with its noun: `1 socket`, `1,200 sockets`.
#[must_use]
pub fn several(number: u64, singular: &str, plural: &str) -> String {
    let noun = if number == 1 { singular } else { plural };
    format!("{} {noun}", thousands(number))
}

/// A percentile of lengths of time, in ns, as far as it is known: `1.3ms`, `?`.
#[must_use]
pub fn percentile(ns: Option<u64>) -> String {
    ns.map_or_else(|| UNKNOWN.into(), |ns| brief(two_digits(ns)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_not_known_better_has_two_digits() {
        for (ns, text) in [
            (0, "0ns"),
            (7, "7ns"),
            (134, "130ns"),
            (999, "1.0us"),
            (131_072, "130us"),
            (1_449_000, "1.4ms"),
            (9_960_000, "10ms"),
            (93_400_000_000, "93s"),
            (754_000_000_000, "12 m 30 s"),
            (8_040_000_000_000, "2 h 10 m"),
            (1_234_000_000_000_000, "14 d 4 h"),
        ] {
            assert_eq!(duration(two_digits(ns)), text, "{ns}");
        }
        let _no_overflow = two_digits(u64::MAX);
    }

    #[test]
    fn thousands_are_separated_by_commas() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (28232, "28,232"),
            (1_234_567, "1,234,567"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(thousands(number), text);
        }
        assert_eq!((quiet(0), quiet(4870)), ("·".into(), "4,870".into()));
    }

    #[test]
    fn short_numbers_have_at_most_four_characters() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.0k"),
            (8102, "8.1k"),
            (9949, "9.9k"),
            (9950, "10k"),
            (81_020, "81k"),
            (999_499, "999k"),
            (999_500, "1.0M"),
            (999_999, "1.0M"),
            (8_100_000_000, "8.1G"),
        ] {
            assert_eq!(short(number), text, "{number}");
        }
        let mut number = 1u64;
        while let Some(next) = number.checked_mul(3) {
            assert!(short(number).len() <= 4, "{number}");
            number = next;
        }
        assert_eq!(short(u64::MAX), "18E");
    }

    #[test]
    fn lengths_of_time_have_a_fitting_unit() {
        for (ns, text) in [
            (0, "0ns"),
            (850, "850ns"),
            (1_100, "1.1us"),
            (21_400, "21us"),
            (999_499, "999us"),
            (999_500, "1.0ms"),
            (1_100_000, "1.1ms"),
            (283_000_000, "283ms"),
            (1_200_000_000, "1.2s"),
            (93_100_000_000, "93s"),
            (119_400_000_000, "119s"),
            (125 * SECOND, "2 m 5 s"),
            (8_040 * SECOND, "2 h 14 m"),
            (50 * 3600 * SECOND, "2 d 2 h"),
        ] {
            assert_eq!(duration(ns), text, "{ns}");
        }
        assert!(duration(u64::MAX).ends_with(" h"));
        for (ns, text) in [
            (850, "850ns"),
            (125 * SECOND, "2m5s"),
            (754 * SECOND, "12m"),
            (8_040 * SECOND, "2h14m"),
            (47 * 3600 * SECOND, "47h0m"),
            (47 * 3600 * SECOND + 754 * SECOND, "47h"),
            (50 * 3600 * SECOND, "2d2h"),
        ] {
            assert_eq!(brief(ns), text, "{ns}");
        }
    }
}
