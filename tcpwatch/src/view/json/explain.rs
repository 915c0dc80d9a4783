//! `explain` as JSON: `tcpwatch.explain/1`, one object per topic.

use std::io::{self, Write};

use serde::Serialize;

use super::line;
use crate::explain;
use crate::explain::lang::Lang;
use crate::explain::names::Names;
use crate::explain::related::related;
use crate::explain::topic::Topic;
use crate::input::setting::Setting;
use crate::input::setting_defaults::SettingFacts;

#[derive(Serialize)]
struct TopicObject {
    schema: &'static str,
    topic: &'static str,
    kind: &'static str,
    lang: &'static str,
    about: &'static str,
    names: Option<Names>,
    ended: Option<&'static str>,
    setting: Option<SettingJson>,
    parts: Vec<Part>,
    see: Vec<&'static str>,
}

/// The facts of a kernel setting.
#[derive(Serialize)]
struct SettingJson {
    sysctl: &'static str,
    default: Option<&'static str>,
    /// Whether the kernel computes the default from the size of memory.
    default_by_memory: bool,
    earlier_default: Option<EarlierDefault>,
    gone_since: Option<&'static str>,
    namespaced: bool,
    namespaced_since: Option<&'static str>,
}

/// The default before some version of Linux.
#[derive(Serialize)]
struct EarlierDefault {
    before: &'static str,
    default: &'static str,
}

#[derive(Serialize)]
struct Part {
    heading: &'static str,
    title: &'static str,
    text: &'static [&'static str],
}

/// Writes an object for each of `topics`.
///
/// # Errors
/// `out` cannot be written to.
pub fn write(out: &mut impl Write, topics: impl Iterator<Item = Topic>, lang: Lang) -> io::Result<()> {
    for topic in topics {
        line::write(out, &TopicObject::new(topic, lang))?;
    }
    Ok(())
}

impl TopicObject {
    fn new(topic: Topic, lang: Lang) -> Self {
        let page = explain::page(topic, lang);
        Self {
            schema: "tcpwatch.explain/1",
            topic: topic.key(),
            kind: topic.group().one(),
            lang: lang.key(),
            about: page.about,
            names: match topic {
                Topic::State(state) => Some(Names::for_state(state)),
                _ => None,
            },
            ended: match topic {
                Topic::Ending(ending) => Some(ending.key()),
                _ => None,
            },
            setting: match topic {
                Topic::Setting(setting) => Some(SettingJson::new(setting)),
                _ => None,
            },
            parts: page
                .parts
                .iter()
                .map(|part| Part {
                    heading: part.heading.key(),
                    title: part.heading.words(lang),
                    text: part.text,
                })
                .collect(),
            see: related(topic).into_iter().map(Topic::key).collect(),
        }
    }
}

impl SettingJson {
    fn new(setting: Setting) -> Self {
        let facts = SettingFacts::for_setting(setting);
        Self {
            sysctl: setting.sysctl(),
            default: facts.default,
            default_by_memory: facts.default.is_none(),
            earlier_default: facts
                .earlier
                .map(|(before, default)| EarlierDefault { before, default }),
            gone_since: facts.gone,
            namespaced: facts.namespaced,
            namespaced_since: facts.namespaced_since,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(topic: Topic) -> Value {
        serde_json::to_value(TopicObject::new(topic, Lang::En)).unwrap()
    }

    #[test]
    fn a_setting_has_its_earlier_default_and_what_it_is_computed_from() {
        let setting = |setting| object(Topic::Setting(setting))["setting"].clone();
        assert_eq!(
            setting(Setting::TcpTwReuse),
            json!({
                "sysctl": "net.ipv4.tcp_tw_reuse",
                "default": "2",
                "default_by_memory": false,
                "earlier_default": {"before": "4.18", "default": "0"},
                "gone_since": null,
                "namespaced": true,
                "namespaced_since": null,
            })
        );
        let buckets = setting(Setting::TcpMaxTwBuckets);
        assert_eq!(
            [
                &buckets["default"],
                &buckets["default_by_memory"],
                &buckets["namespaced_since"]
            ],
            [&Value::Null, &json!(true), &json!("4.11")]
        );
    }

    #[test]
    fn a_state_has_its_number_and_its_names() {
        let close = object(Topic::State(tcpwatch_common::TcpState::Close));
        assert_eq!(
            close["names"],
            json!({"number": 7, "kernel": "TCP_CLOSE", "ss": "UNCONN", "netstat": "CLOSE", "rfc": "CLOSED"})
        );
    }
}
