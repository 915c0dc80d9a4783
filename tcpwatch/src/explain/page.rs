//! The parts of a page for each kind of topic. The types ensure that no part is missing in any language.

use super::lang::Lang;

/// The explanation of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// A summary in one line, without a full stop.
    pub about: &'static str,
    /// The other parts, in reading order.
    pub parts: Vec<Part>,
}

/// A part of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What the part is about.
    pub heading: Heading,
    /// One paragraph, or several independent items.
    pub text: &'static [&'static str],
}

/// What a part is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heading {
    /// What it means.
    Meaning,
    /// Who waits for whom.
    Waiting,
    /// How long it lasts.
    Lasts,
    /// What is normal.
    Normal,
    /// What happened.
    Happened,
    /// Common causes.
    Causes,
    /// Why it hurts.
    Hurts,
    /// What a setting does.
    Does,
    /// Common wrong beliefs about it.
    DoesNot,
    /// When to change it.
    Change,
    /// The risk of a change.
    Risk,
    /// The answer to a question.
    Answer,
    /// The answer, case by case.
    Cases,
    /// How to investigate.
    Look,
    /// What to do.
    ToDo,
}

impl Heading {
    /// The name in machine output.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Meaning => "meaning",
            Self::Waiting => "waiting",
            Self::Lasts => "lasts",
            Self::Normal => "normal",
            Self::Happened => "happened",
            Self::Causes => "causes",
            Self::Hurts => "hurts",
            Self::Does => "does",
            Self::DoesNot => "does_not",
            Self::Change => "change",
            Self::Risk => "risk",
            Self::Answer => "answer",
            Self::Cases => "cases",
            Self::Look => "look",
            Self::ToDo => "to_do",
        }
    }

    /// The heading in text output.
    #[must_use]
    pub const fn words(self, lang: Lang) -> &'static str {
        let (en, zh) = match self {
            Self::Meaning => ("What it means", "含义"),
            Self::Waiting => ("Who waits for whom", "谁在等谁"),
            Self::Lasts => ("How long it lasts", "持续多久"),
            Self::Normal => ("What is normal", "怎样算正常"),
            Self::Happened => ("What happened", "发生了什么"),
            Self::Causes => ("Common causes", "常见原因"),
            Self::Hurts => ("Why it hurts", "有什么危害"),
            Self::Does => ("What it does", "作用"),
            Self::DoesNot => ("What it does not do", "它管不了什么"),
            Self::Change => ("When to change it", "何时该改"),
            Self::Risk => ("Risk", "风险"),
            Self::Answer => ("Short answer", "简短回答"),
            Self::Cases => ("Case by case", "逐条说明"),
            Self::Look => ("How to investigate", "如何排查"),
            Self::ToDo => ("What to do", "怎么办"),
        };
        match lang {
            Lang::En => en,
            Lang::Zh => zh,
        }
    }
}

/// Builds a [`Page`] from the named fields, in the given order.
macro_rules! parts {
    ($self:ident, $($heading:ident: $field:ident),+) => {
        Page {
            about: $self.about,
            parts: vec![$(Part { heading: Heading::$heading, text: $self.$field }),+],
        }
    };
}

/// The text for a state.
pub(super) struct StateText {
    pub(super) about: &'static str,
    pub(super) meaning: &'static [&'static str],
    pub(super) waiting: &'static [&'static str],
    pub(super) lasts: &'static [&'static str],
    pub(super) normal: &'static [&'static str],
    pub(super) look: &'static [&'static str],
}

impl From<StateText> for Page {
    fn from(text: StateText) -> Self {
        parts!(text, Meaning: meaning, Waiting: waiting, Lasts: lasts, Normal: normal, Look: look)
    }
}

/// The text for an ending.
pub(super) struct EndingText {
    pub(super) about: &'static str,
    pub(super) happened: &'static [&'static str],
    pub(super) causes: &'static [&'static str],
    pub(super) look: &'static [&'static str],
}

impl From<EndingText> for Page {
    fn from(text: EndingText) -> Self {
        parts!(text, Happened: happened, Causes: causes, Look: look)
    }
}

/// The text for a finding.
pub(super) struct FindingText {
    pub(super) about: &'static str,
    pub(super) meaning: &'static [&'static str],
    pub(super) hurts: &'static [&'static str],
    pub(super) to_do: &'static [&'static str],
}

impl From<FindingText> for Page {
    fn from(text: FindingText) -> Self {
        parts!(text, Meaning: meaning, Hurts: hurts, ToDo: to_do)
    }
}

/// The text for a setting.
pub(super) struct SettingText {
    pub(super) about: &'static str,
    pub(super) does: &'static [&'static str],
    pub(super) does_not: &'static [&'static str],
    pub(super) change: &'static [&'static str],
    pub(super) risk: &'static [&'static str],
}

impl From<SettingText> for Page {
    fn from(text: SettingText) -> Self {
        parts!(text, Does: does, DoesNot: does_not, Change: change, Risk: risk)
    }
}

/// The text for a question.
pub(super) struct QuestionText {
    pub(super) about: &'static str,
    pub(super) answer: &'static [&'static str],
    pub(super) cases: &'static [&'static str],
    pub(super) look: &'static [&'static str],
}

impl From<QuestionText> for Page {
    fn from(text: QuestionText) -> Self {
        parts!(text, Answer: answer, Cases: cases, Look: look)
    }
}
