//! The words around the explain pages.

use crate::explain::names::Names;
use crate::explain::words::{TimewaitSocket, Words};
use crate::input::setting_defaults::SettingFacts;
use crate::model::ending::Ending;

pub(in crate::explain) const WORDS: Words = Words {
    see: "See also: ",
    comma: ", ",
    more: "`tcpwatch explain TOPIC` explains one topic; `tcpwatch explain states` draws the state diagram.",
    names,
    ending_names_line,
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

fn ending_names_line(ending: Ending, timewait: TimewaitSocket) -> String {
    let timewait = match timewait {
        TimewaitSocket::In(state) => format!("in {}", state.name()),
        TimewaitSocket::None => "none".into(),
        TimewaitSocket::Unknown => "unknown".into(),
    };
    let (words, key) = (ending.words(), ending.key());
    format!("text: {words}; JSON: {key}; timewait socket on this host: {timewait}")
}

fn defaults(facts: SettingFacts) -> String {
    let default = match facts.default {
        Some("") => "empty",
        Some(default) => default,
        None => "set by the kernel from memory size",
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
