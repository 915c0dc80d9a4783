//! What `tcpwatch explain` can be asked about.

use serde::{Serialize, Serializer};
use tcpwatch_common::TcpState;

use crate::explain::kind::Kind;
use crate::input::setting::Setting;
use crate::model::ending::Ending;

/// Something to explain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A state.
    State(TcpState),
    /// How a connection ended.
    Ending(Ending),
    /// A finding.
    Finding(Kind),
    /// A setting.
    Setting(Setting),
    /// Why did my active close not go to `TIME_WAIT`?
    NoTimeWait,
}

impl Topic {
    /// Its name, as typed and in machine output.
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

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let states = TcpState::ALL.into_iter().map(Self::State);
        let endings = Ending::ALL.into_iter().map(Self::Ending);
        let settings = Setting::ALL.into_iter().map(Self::Setting);
        states
            .chain(endings)
            .chain(Kind::ALL.map(Self::Finding))
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
    fn every_topic_has_a_name_of_its_own() {
        let mut keys: Vec<&str> = Topic::all().map(Topic::key).collect();
        let all = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all);
    }
}
