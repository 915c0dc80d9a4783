//! Groups of topics, by kind.

use super::lang::Lang;
use super::topic::Topic;

/// All topics of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicGroup {
    /// States.
    States,
    /// The ways in which a connection ends.
    Endings,
    /// Findings of detectors and of `doctor`.
    Findings,
    /// Settings of the host.
    Settings,
    /// Frequent questions.
    Questions,
}

impl TopicGroup {
    /// All groups, in the order of the list.
    pub const ALL: [Self; 5] = [
        Self::States,
        Self::Endings,
        Self::Findings,
        Self::Settings,
        Self::Questions,
    ];

    /// Iterates over the topics of the group.
    pub fn topics(self) -> impl Iterator<Item = Topic> {
        Topic::all().filter(move |&topic| topic.group() == self)
    }

    /// The name, as typed.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::States => "states",
            Self::Endings => "endings",
            Self::Findings => "findings",
            Self::Settings => "settings",
            Self::Questions => "questions",
        }
    }

    /// The kind of one topic, in machine output.
    #[must_use]
    pub const fn one(self) -> &'static str {
        match self {
            Self::States => "state",
            Self::Endings => "ending",
            Self::Findings => "finding",
            Self::Settings => "setting",
            Self::Questions => "question",
        }
    }

    /// The heading above the list, in text output.
    #[must_use]
    pub const fn words(self, lang: Lang) -> &'static str {
        let (en, zh) = match self {
            Self::States => ("States", "状态"),
            Self::Endings => ("How a connection ended", "连接如何结束"),
            Self::Findings => ("Findings", "诊断结论"),
            Self::Settings => ("Settings (sysctl)", "内核参数（sysctl）"),
            Self::Questions => ("Questions", "常见问题"),
        };
        match lang {
            Lang::En => en,
            Lang::Zh => zh,
        }
    }
}
