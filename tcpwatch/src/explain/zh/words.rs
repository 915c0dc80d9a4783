//! What is said around the pages.

use crate::explain::names::Names;
use crate::explain::words::{TimewaitSocket, Words};
use crate::input::setting_defaults::SettingFacts;
use crate::model::ending::Ending;

pub(in crate::explain) const WORDS: Words = Words {
    see: "另见：",
    comma: "、",
    more: "`tcpwatch explain TOPIC` 查看详细说明；`tcpwatch explain states` 画出状态图。",
    names,
    ending_names_line,
    defaults,
};

fn names(names: Names) -> String {
    let Names {
        number,
        kernel,
        ss,
        netstat,
        rfc,
    } = names;
    format!("内核 {kernel}（{number}），ss {ss}，netstat {netstat}，RFC {rfc}")
}

fn ending_names_line(ending: Ending, timewait: TimewaitSocket) -> String {
    let timewait = match timewait {
        TimewaitSocket::In(state) => format!("处于 {}", state.name()),
        TimewaitSocket::None => "没有".into(),
        TimewaitSocket::Unknown => "未知".into(),
    };
    let (words, key) = (ending.words(), ending.key());
    format!("文本输出：{words}；JSON：{key}；本端的 timewait 套接字：{timewait}")
}

fn defaults(facts: SettingFacts) -> String {
    let default = match facts.default {
        Some("") => "空",
        Some(default) => default,
        None => "由内存大小决定",
    };
    let when = match (facts.earlier, facts.gone) {
        (Some((version, value)), _) => format!("（Linux {version} 之前是 {value}）"),
        (None, Some(version)) => format!("（Linux {version} 之前）"),
        (None, None) => String::new(),
    };
    let whose = match (facts.namespaced, facts.namespaced_since, facts.gone) {
        (true, Some(version), Some(_)) => format!("Linux {version} 之前整台主机共用"),
        (true, Some(version), None) => format!("Linux {version} 起每个网络命名空间各有一份，之前整台主机共用"),
        (true, None, _) => "每个网络命名空间各有一份".into(),
        (false, ..) => "整台主机共用".into(),
    };
    format!("默认值：{default}{when}；{whose}")
}
