//! A finding: what is wrong, by which numbers, and what to do about it.

use serde::{Serialize, Serializer};

use crate::explain::kind::FindingKind;
use crate::explain::topic::Topic;
use crate::input::owner::{Owner, Process};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// It hurts, or will.
    Warning,
    /// Connections fail, or will within minutes.
    Critical,
}

impl Severity {
    /// Critical, or else a warning.
    #[must_use]
    pub const fn critical_if(is_critical: bool) -> Self {
        if is_critical { Self::Critical } else { Self::Warning }
    }

    /// The word in machine output.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Serialize for Severity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.key())
    }
}

/// A piece of evidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// A count, or a length of time in the unit its name ends with.
    Count(u64),
    /// A rate or a share.
    Number(f64),
    /// Anything else. Not escaped.
    Text(String),
    /// Not known.
    Unknown,
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Unknown, Into::into)
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What kind of trouble it is.
    pub kind: FindingKind,
    /// Its page of `tcpwatch explain`.
    pub topic: Topic,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in a sentence with its numbers and without a full stop. Names from outside are escaped.
    pub title: String,
    /// The evidence, by its names in machine output.
    pub evidence: Vec<(&'static str, Value)>,
    /// What to do, one step an item, the best first.
    pub advice: Vec<String>,
    /// The process that causes it; `None` if there is none, or it is unknown.
    pub owner: Option<Owner>,
}

/// The evidence that names the subject of a finding. All other evidence may change while the finding stays.
const NAMES: [&str; 18] = [
    "reason",
    "verdict",
    "state",
    "peer",
    "local",
    "lport",
    "remote",
    "rport",
    "source",
    "destination",
    "listener",
    "cgroup",
    "container",
    "pod",
    "netns",
    "fullest_netns",
    "start",
    "end",
];

/// What a finding is about: its kind and severity, the owner, and the evidence of [`NAMES`]. It stays equal while only numbers change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject(FindingKind, Severity, Option<Process>, Vec<String>);

impl Finding {
    /// What it is about.
    #[must_use]
    pub fn subject(&self) -> Subject {
        let names = self.evidence.iter().filter(|(name, _)| NAMES.contains(name));
        let names = names.map(|(name, value)| format!("{name} {value:?}"));
        Subject(self.kind, self.severity, self.owner.map(Process::from), names.collect())
    }

    /// A finding of `kind`, which names its page of `tcpwatch explain`; the rest is to be filled in.
    #[must_use]
    pub fn new(kind: FindingKind, severity: Severity, title: String) -> Self {
        Self {
            kind,
            topic: Topic::Finding(kind),
            severity,
            title,
            evidence: Vec::new(),
            advice: Vec::new(),
            owner: None,
        }
    }

    /// The piece of evidence of this name, where it has one.
    #[must_use]
    pub fn evidence(&self, name: &str) -> Option<&Value> {
        let found = self.evidence.iter().find(|(found, _)| *found == name);
        found.map(|(_, value)| value)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::input::owner::{Comm, How};
    use crate::input::setting::Setting;

    /// One with everything there may be.
    pub(crate) fn finding() -> Finding {
        let owner = Owner {
            pid: NonZeroU32::new(7),
            comm: Comm::new(b"a\x1b"),
            how: How::Connect,
            cgroup: None,
        };
        Finding {
            kind: FindingKind::Churn,
            topic: Topic::Finding(FindingKind::Churn),
            severity: Severity::Warning,
            title: format!("{owner} opened 4,870 connections"),
            evidence: vec![
                ("opened", 4870.into()),
                ("opened_per_s", 487.0.into()),
                ("remote", "10.0.0.9".into()),
                ("ends", None::<u64>.into()),
            ],
            advice: vec!["use a pool".into(), "or keep-alive".into()],
            owner: Some(owner),
        }
    }

    /// One with as little as there may be.
    pub(crate) fn bare() -> Finding {
        Finding {
            kind: FindingKind::Host,
            topic: Topic::Setting(Setting::TcpTwRecycle),
            severity: Severity::Info,
            title: "x".into(),
            evidence: Vec::new(),
            advice: Vec::new(),
            owner: None,
        }
    }

    #[test]
    fn another_owner_port_or_namespace_is_another_subject() {
        let subject = |change: fn(&mut Finding)| {
            let mut finding = finding();
            finding.evidence.extend([("rport", 80.into()), ("netns", 7.into())]);
            change(&mut finding);
            finding.subject()
        };
        let same = subject(|_| {});
        assert_eq!(subject(|finding| finding.evidence[0].1 = 5000.into()), same);
        let others: [fn(&mut Finding); 5] = [
            |finding| finding.owner = None,
            |finding| finding.severity = Severity::Critical,
            |finding| finding.evidence[2].1 = "10.0.0.8".into(),
            |finding| finding.evidence[4].1 = 443.into(),
            |finding| finding.evidence[5].1 = 8.into(),
        ];
        for other in others {
            assert_ne!(subject(other), same);
        }
    }

    #[test]
    fn the_worst_is_the_greatest() {
        assert!(Severity::Critical > Severity::Warning && Severity::Warning > Severity::Info);
    }
}
