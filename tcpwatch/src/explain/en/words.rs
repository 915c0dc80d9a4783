//! What is said around the pages.

use crate::explain::facts::Facts;
use crate::explain::names::Names;
use crate::explain::words::{Remains, Words};
use crate::model::ending::Ending;

pub(in crate::explain) const WORDS: Words = Words {
    see: "See also: ",
    comma: ", ",
    more: "`tcpwatch explain TOPIC` tells more; `tcpwatch explain states` draws the states.",
    names,
    told_as,
    defaults,
};

/// `kernel TCP_CLOSE (7), ss UNCONN, netstat CLOSE, RFC CLOSED`
fn names(names: Names) -> String {
    let Names {
        number,
        kernel,
        ss,
        netstat,
        rfc,
    } = names;
    format!("kernel {kernel} ({number}), ss {ss}, netstat {netstat}, RFC {rfc}")
}

fn told_as(ending: Ending, remains: Remains) -> String {
    let remains = match remains {
        Remains::In(state) => format!("in {}", state.name()),
        Remains::Nothing => "none".into(),
        Remains::Unknown => "unknown".into(),
    };
    let (words, key) = (ending.words(), ending.key());
    format!("in text: {words}; in JSON: {key}; timewait socket here: {remains}")
}

fn defaults(facts: Facts) -> String {
    let default = match facts.default {
        Some("") => "empty",
        Some(default) => default,
        None => "by the size of memory",
    };
    let when = match (facts.earlier, facts.gone) {
        (Some((version, value)), _) => format!(" ({value} before Linux {version})"),
        (None, Some(version)) => format!(" (before Linux {version})"),
        (None, None) => String::new(),
    };
    let whose = match (facts.namespaced, facts.namespaced_since, facts.gone) {
        (true, Some(version), Some(_)) => format!("one for the whole host before Linux {version}"),
        (true, Some(version), None) => {
            format!("each network namespace has its own since Linux {version}, before that one for the whole host")
        }
        (true, None, _) => "each network namespace has its own".into(),
        (false, ..) => "one for the whole host".into(),
    };
    format!("default: {default}{when}; {whose}")
}
