//! What the bench holds tcpwatch to.

use super::table::number;

/// One promise, and what became of it.
pub(super) struct Target {
    /// What was promised.
    pub(super) promise: String,
    /// How much.
    pub(super) limit: String,
    /// What was measured.
    pub(super) measured: String,
    /// Whether that is good enough; `None` where it was not measured.
    pub(super) met: Option<bool>,
}

impl Target {
    /// `measured` may be `limit` and no more.
    pub(super) fn at_most(promise: &str, measured: f64, limit: f64, unit: &str, digits: usize) -> Self {
        Self::new(promise, "<=", measured, limit, unit, digits, measured <= limit)
    }

    /// `measured` may be `limit` and no less.
    pub(super) fn at_least(promise: &str, measured: f64, limit: f64, unit: &str, digits: usize) -> Self {
        Self::new(promise, ">=", measured, limit, unit, digits, measured >= limit)
    }

    fn new(promise: &str, sign: &str, measured: f64, limit: f64, unit: &str, digits: usize, met: bool) -> Self {
        let with_unit = |value: f64| format!("{} {unit}", number(value, digits)).trim_end().to_owned();
        Self {
            promise: promise.to_owned(),
            limit: format!("{sign} {}", with_unit(limit)),
            measured: if measured.is_finite() {
                with_unit(measured)
            } else {
                "-".to_owned()
            },
            met: (measured.is_finite() && limit.is_finite()).then_some(met),
        }
    }

    /// Whether it is met, in words.
    pub(super) fn verdict(&self) -> &'static str {
        match self.met {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "not measured",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        let verdict = |target: Target| (target.verdict(), target.limit, target.measured);
        let words = |verdict, limit: &str, measured: &str| (verdict, limit.to_owned(), measured.to_owned());
        assert_eq!(
            verdict(Target::at_most("", 0.5, 0.5, "us", 1)),
            words("met", "<= 0.5 us", "0.5 us")
        );
        assert_eq!(
            verdict(Target::at_least("", 2.9, 3.0, "x", 1)),
            words("NOT MET", ">= 3.0 x", "2.9 x")
        );
        assert_eq!(
            verdict(Target::at_most("", f64::NAN, 0.0, "", 0)),
            words("not measured", "<= 0", "-")
        );
    }
}
