//! Chinese, simplified. States, settings and counters keep their names.

mod diagram;
mod endings;
mod findings;
mod questions;
mod settings;
mod states;

use super::page::Page;
use super::topic::Topic;

pub(super) use diagram::DIAGRAM;

/// What there is to say about `topic`.
pub(super) fn page(topic: Topic) -> Page {
    match topic {
        Topic::State(state) => states::text(state).into(),
        Topic::Ending(ending) => endings::text(ending).into(),
        Topic::Finding(kind) => findings::text(kind).into(),
        Topic::Setting(setting) => settings::text(setting).into(),
        Topic::NoTimeWait => questions::NO_TIME_WAIT.into(),
    }
}
