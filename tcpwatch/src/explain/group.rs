//! The kinds of topics.

use super::lang::Lang;
use super::topic::Topic;

/// A kind of topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// States.
    States,
    /// How connections end.
    Endings,
    /// What detectors and `doctor` find.
    Findings,
    /// Settings of the host.
    Settings,
    /// Questions people ask.
    Questions,
}

impl Group {
    /// All of them, in the order they are listed.
    pub const ALL: [Self; 5] = [
        Self::States,
        Self::Endings,
        Self::Findings,
        Self::Settings,
        Self::Questions,
    ];

    /// That of `topic`.
    #[must_use]
    pub const fn of(topic: Topic) -> Self {
        match topic {
            Topic::State(_) => Self::States,
            Topic::Ending(_) => Self::Endings,
            Topic::Finding(_) => Self::Findings,
            Topic::Setting(_) => Self::Settings,
            Topic::NoTimeWait => Self::Questions,
        }
    }

    /// Its topics.
    pub fn topics(self) -> impl Iterator<Item = Topic> {
        Topic::all().filter(move |&topic| Self::of(topic) == self)
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

    /// What one of them is, in machine output.
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

    /// For people, above a list of them.
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
