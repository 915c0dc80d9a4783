//! `explain` for programs: `tcpwatch.explain/1`, one object a topic.

use std::io::{self, Write};

use serde::Serialize;
use tcpwatch_common::TcpState;

use crate::explain;
use crate::explain::facts::Facts;
use crate::explain::group::Group;
use crate::explain::lang::Lang;
use crate::explain::names::Names;
use crate::explain::related::related;
use crate::explain::setting::Setting;
use crate::explain::topic::Topic;

#[derive(Serialize)]
struct Line {
    schema: &'static str,
    topic: &'static str,
    kind: &'static str,
    lang: &'static str,
    about: &'static str,
    names: Option<StateNames>,
    ended: Option<&'static str>,
    setting: Option<SettingFacts>,
    parts: Vec<Part>,
    see: Vec<&'static str>,
}

/// What a state is called.
#[derive(Serialize)]
struct StateNames {
    number: u8,
    kernel: &'static str,
    ss: &'static str,
    netstat: &'static str,
    rfc: &'static str,
}

/// What is known of a setting.
#[derive(Serialize)]
struct SettingFacts {
    sysctl: &'static str,
    default: Option<&'static str>,
    gone_since: Option<&'static str>,
    namespaced: bool,
}

#[derive(Serialize)]
struct Part {
    heading: &'static str,
    title: &'static str,
    text: &'static [&'static str],
}

/// Writes what there is to say about each of `topics`.
///
/// # Errors
/// Those of `out`.
pub fn pages(out: &mut impl Write, topics: impl Iterator<Item = Topic>, lang: Lang) -> io::Result<()> {
    for topic in topics {
        serde_json::to_writer(&mut *out, &line(topic, lang))?;
        writeln!(out)?;
    }
    Ok(())
}

fn line(topic: Topic, lang: Lang) -> Line {
    let page = explain::page(topic, lang);
    Line {
        schema: "tcpwatch.explain/1",
        topic: topic.key(),
        kind: Group::of(topic).one(),
        lang: lang.key(),
        about: page.about,
        names: match topic {
            Topic::State(state) => Some(names(state)),
            _ => None,
        },
        ended: match topic {
            Topic::Ending(ending) => Some(ending.key()),
            _ => None,
        },
        setting: match topic {
            Topic::Setting(setting) => Some(facts(setting)),
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

fn names(state: TcpState) -> StateNames {
    let names = Names::of(state);
    StateNames {
        number: state.number(),
        kernel: names.kernel,
        ss: names.ss,
        netstat: names.netstat,
        rfc: names.rfc,
    }
}

fn facts(setting: Setting) -> SettingFacts {
    let facts = Facts::of(setting);
    SettingFacts {
        sysctl: setting.sysctl(),
        default: facts.default,
        gone_since: facts.gone,
        namespaced: facts.namespaced,
    }
}
