//! Explanations of states, endings, findings and settings: texts as data, the single source for every view.
//!
//! Each language has one file for each kind of topic: an exhaustive match over the enum, so no topic can be missing. Commands
//! to type stand between backquotes. Facts that do not depend on the language are in [`names`] and [`related`].

#[expect(clippy::too_many_lines, reason = "one text after another, and nothing to follow")]
mod en;
#[cfg(test)]
pub(crate) mod testing;
#[expect(clippy::too_many_lines, reason = "one text after another, and nothing to follow")]
mod zh;

pub mod diagram_words;
pub mod group;
pub mod kind;
pub mod lang;
pub mod lookup;
pub mod names;
pub mod page;
pub mod related;
pub mod step;
pub(crate) mod sysctl_command;
pub mod topic;
pub mod words;

use diagram_words::Diagram;
use lang::Lang;
use page::{EndingText, FindingText, Page, QuestionText, SettingText, StateText};
use tcpwatch_common::TcpState;
use topic::Topic;
use words::Words;

use crate::explain::kind::FindingKind;
use crate::input::setting::Setting;
use crate::model::ending::Ending;

/// All texts of one language.
struct Texts {
    state: fn(TcpState) -> StateText,
    ending: fn(Ending) -> EndingText,
    finding: fn(FindingKind) -> FindingText,
    setting: fn(Setting) -> SettingText,
    no_time_wait: fn() -> QuestionText,
    diagram: &'static Diagram,
    words: &'static Words,
}

impl Texts {
    const fn in_lang(lang: Lang) -> &'static Self {
        match lang {
            Lang::En => &en::TEXTS,
            Lang::Zh => &zh::TEXTS,
        }
    }
}

/// The explanation of `topic` in `lang`.
#[must_use]
pub fn page(topic: Topic, lang: Lang) -> Page {
    let texts = Texts::in_lang(lang);
    match topic {
        Topic::State(state) => (texts.state)(state).into(),
        Topic::Ending(ending) => (texts.ending)(ending).into(),
        Topic::Finding(kind) => (texts.finding)(kind).into(),
        Topic::Setting(setting) => (texts.setting)(setting).into(),
        Topic::NoTimeWait => (texts.no_time_wait)().into(),
    }
}

/// The words around the state diagram in `lang`.
#[must_use]
pub const fn diagram(lang: Lang) -> &'static Diagram {
    Texts::in_lang(lang).diagram
}

/// The words around the pages in `lang`.
#[must_use]
pub const fn words(lang: Lang) -> &'static Words {
    Texts::in_lang(lang).words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(page: &Page) -> impl Iterator<Item = &'static str> {
        let texts = page.parts.iter().flat_map(|part| part.text.iter().copied());
        [page.about].into_iter().chain(texts)
    }

    fn is_chinese(letter: char) -> bool {
        ('\u{4e00}'..='\u{9fff}').contains(&letter)
    }

    #[test]
    fn both_languages_have_the_same_parts_and_none_is_empty() {
        for topic in Topic::all() {
            let [english, chinese] = Lang::ALL.map(|lang| page(topic, lang));
            let shape = |page: &Page| -> Vec<_> {
                let parts = page.parts.iter();
                parts.map(|part| (part.heading, part.text.len())).collect()
            };
            assert_eq!(shape(&english), shape(&chinese), "{}", topic.key());
            for page in [english, chinese] {
                assert!(page.parts.iter().all(|part| !part.text.is_empty()), "{}", topic.key());
                let whole = |text: &str| text.trim() == text && !text.is_empty();
                assert!(texts(&page).all(whole), "{}", topic.key());
            }
        }
    }

    #[test]
    fn english_is_ascii_and_chinese_is_chinese() {
        for topic in Topic::all() {
            for text in texts(&page(topic, Lang::En)) {
                assert!(text.is_ascii(), "{}: {text}", topic.key());
            }
            let chinese = page(topic, Lang::Zh);
            assert!(chinese.about.chars().any(is_chinese), "{}", topic.key());
            for part in &chinese.parts {
                let mut letters = part.text.iter().flat_map(|text| text.chars());
                assert!(letters.any(is_chinese), "{}: {:?}", topic.key(), part.heading);
            }
        }
    }

    #[test]
    fn sentences_end_and_titles_do_not() {
        for (lang, stop) in [(Lang::En, '.'), (Lang::Zh, '。')] {
            for topic in Topic::all() {
                let page = page(topic, lang);
                assert!(!page.about.ends_with(stop), "{}", page.about);
                for text in page.parts.iter().flat_map(|part| part.text) {
                    let ended = text.ends_with(stop) || text.ends_with(['?', '？']);
                    assert!(ended, "{}: {text}", topic.key());
                }
            }
        }
    }

    /// ASCII punctuation beside a Chinese character is a mistake, and so are two spaces.
    #[test]
    fn chinese_punctuation_is_chinese() {
        for topic in Topic::all() {
            for text in texts(&page(topic, Lang::Zh)) {
                assert!(!text.contains("  "), "{text}");
                let letters: Vec<char> = text.chars().collect();
                for pair in letters.windows(2) {
                    let slip = |mark: char, beside: char| ",;:?!()".contains(mark) && is_chinese(beside);
                    assert!(!slip(pair[0], pair[1]) && !slip(pair[1], pair[0]), "{pair:?} in {text}");
                }
            }
        }
    }

    #[test]
    fn related_topics_exist_and_differ() {
        let all: Vec<Topic> = Topic::all().collect();
        for topic in Topic::all() {
            for other in related::related(topic) {
                assert!(all.contains(&other) && other != topic, "{}", topic.key());
            }
        }
    }

    /// Commands stand between backquotes and are the same in both languages.
    #[test]
    fn both_languages_have_the_same_commands() {
        let commands = |page: &Page| {
            let mut commands: Vec<&str> = Vec::new();
            for text in texts(page) {
                let pieces: Vec<&str> = text.split('`').collect();
                assert_eq!(pieces.len() % 2, 1, "{text}");
                commands.extend(pieces.into_iter().skip(1).step_by(2));
            }
            commands.sort_unstable();
            commands
        };
        for topic in Topic::all() {
            let [english, chinese] = Lang::ALL.map(|lang| commands(&page(topic, lang)));
            assert_eq!(english, chinese, "{}", topic.key());
        }
    }

    /// Backquotes separate a command from the text after it.
    #[test]
    fn no_command_stands_without_backquotes() {
        let ours = [
            "stat", "trace", "life", "churn", "latency", "leaks", "snapshot", "doctor", "explain",
        ]
        .map(|name| format!("tcpwatch {name}"));
        let theirs = ["nstat -", "sysctl -", "ulimit -", " ss -", " ip -"].map(String::from);
        for topic in Topic::all() {
            for lang in Lang::ALL {
                for text in page(topic, lang).parts.iter().flat_map(|part| part.text) {
                    let outside: String = text.split('`').step_by(2).collect();
                    let mut commands = ours.iter().chain(&theirs);
                    assert!(
                        !commands.any(|command| format!(" {outside}").contains(command)),
                        "{text}"
                    );
                }
            }
        }
    }

    /// Names of settings, states, endings and counters are not translated: both languages must mention the same.
    #[test]
    fn both_languages_mention_the_same_names() {
        let named = |page: &Page| {
            let mut names: Vec<&str> = texts(page)
                .flat_map(|text| text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_'))
                .filter(|word| word.contains('_'))
                .collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        for topic in Topic::all() {
            let [english, chinese] = Lang::ALL.map(|lang| named(&page(topic, lang)));
            assert_eq!(english, chinese, "{}", topic.key());
        }
    }
}
