//! The judgement of one setting.

use super::Standing;
use crate::detect::finding::{Severity, Value};
use crate::explain::sysctl_command::{Kept, Where};
use crate::input::counter::Counter;
use crate::input::host::HostFrame;
use crate::input::setting::Setting;

/// A setting of this host, judged.
pub(super) struct Judgement {
    pub(super) severity: Severity,
    pub(super) standing: Standing,
    /// A sentence without its full stop, where there is evidence; else empty.
    pub(super) words: String,
    /// The counters it stands on.
    pub(super) counters: Vec<Counter>,
    /// Other numbers it stands on.
    pub(super) evidence: Vec<(&'static str, Value)>,
    pub(super) advice: Vec<String>,
}

impl Judgement {
    /// Nothing here asks for another value.
    pub(super) const fn fine() -> Self {
        Self {
            severity: Severity::Info,
            standing: Standing::Fine,
            words: String::new(),
            counters: Vec::new(),
            evidence: Vec::new(),
            advice: Vec::new(),
        }
    }

    /// It is not known.
    pub(super) fn unknown(words: impl Into<String>) -> Self {
        Self {
            standing: Standing::Unknown,
            words: words.into(),
            ..Self::fine()
        }
    }

    /// Worth knowing.
    pub(super) fn note(words: impl Into<String>) -> Self {
        Self {
            standing: Standing::Notable,
            words: words.into(),
            ..Self::fine()
        }
    }

    /// It hurts.
    pub(super) fn warning(words: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::note(words)
        }
    }

    /// Connections fail for it.
    pub(super) fn critical(words: impl Into<String>) -> Self {
        Self {
            severity: Severity::Critical,
            ..Self::note(words)
        }
    }

    pub(super) fn counters(mut self, counters: &[Counter]) -> Self {
        self.counters.extend(counters);
        self
    }

    pub(super) fn evidence(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.evidence.push((name, value.into()));
        self
    }

    pub(super) fn step(mut self, step: impl Into<String>) -> Self {
        self.advice.push(step.into());
        self
    }

    /// To set `setting` to `value`: what to type, what makes it last, and the risk.
    pub(super) fn with_set_command(mut self, frame: &HostFrame, setting: Setting, value: &str, risk: &str) -> Self {
        let place = Where {
            scope: &frame.scope,
            first: frame.first,
            kept: frame
                .line_of(setting)
                .map_or(Kept::Nowhere, |line| Kept::At(&line.place)),
        };
        self.advice.extend(place.set(setting, value, risk));
        self
    }
}
