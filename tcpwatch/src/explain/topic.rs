//! The topics of `tcpwatch explain`.

use serde::{Serialize, Serializer};
use tcpwatch_common::TcpState;

use super::group::TopicGroup;
use crate::explain::kind::FindingKind;
use crate::input::setting::Setting;
use crate::model::ending::Ending;

/// A topic of `tcpwatch explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A state.
    State(TcpState),
    /// How a connection ended.
    Ending(Ending),
    /// A finding.
    Finding(FindingKind),
    /// A setting.
    Setting(Setting),
    /// Why did my active close not go to `TIME_WAIT`?
    NoTimeWait,
}

impl Topic {
    /// The name on the command line and in machine output.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::State(state) => state.key(),
            Self::Ending(Ending::Unknown) => "unknown_ending",
            Self::Ending(ending) => ending.key(),
            Self::Finding(kind) => kind.key(),
            Self::Setting(setting) => setting.key(),
            Self::NoTimeWait => "no_time_wait",
        }
    }

    /// The group that the topic belongs to.
    #[must_use]
    pub const fn group(self) -> TopicGroup {
        match self {
            Self::State(_) => TopicGroup::States,
            Self::Ending(_) => TopicGroup::Endings,
            Self::Finding(_) => TopicGroup::Findings,
            Self::Setting(_) => TopicGroup::Settings,
            Self::NoTimeWait => TopicGroup::Questions,
        }
    }

    /// Iterates over all topics.
    pub fn all() -> impl Iterator<Item = Self> {
        let states = TcpState::ALL.into_iter().map(Self::State);
        let endings = Ending::ALL.into_iter().map(Self::Ending);
        let settings = Setting::ALL.into_iter().map(Self::Setting);
        states
            .chain(endings)
            .chain(FindingKind::ALL.map(Self::Finding))
            .chain(settings)
            .chain([Self::NoTimeWait])
    }
}

impl Serialize for Topic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut keys: Vec<&str> = Topic::all().map(Topic::key).collect();
        let all = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all);
    }
}
