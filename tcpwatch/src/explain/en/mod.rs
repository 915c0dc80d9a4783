//! English.

mod diagram_words;
mod endings;
mod findings;
mod questions;
mod settings;
mod states;
mod words;

use super::Texts;

pub(super) const TEXTS: Texts = Texts {
    state: states::text,
    ending: endings::text,
    finding: findings::text,
    setting: settings::text,
    no_time_wait: || questions::NO_TIME_WAIT,
    diagram: &diagram_words::DIAGRAM,
    words: &words::WORDS,
};
