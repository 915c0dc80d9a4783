//! Finds the topic for a name in any spelling: `CLOSE-WAIT`, `ESTAB`, `net.ipv4.tcp_tw_reuse`, `peer closed first`, `EMFILE`.

use strsim::damerau_levenshtein;

use super::group::TopicGroup;
use super::lang::Lang;
use super::names::Names;
use super::topic::Topic;
use crate::explain;
use crate::explain::kind::FindingKind;
use crate::input::counter::Counter;
use crate::input::setting::Setting;
use crate::model::ending::Ending;
use crate::model::leaks::Verdict;

/// Characters of the longest text that is searched. No name is that long.
const LONGEST: usize = 128;
/// Characters from which a part of a name is specific enough.
const SHORTEST: usize = 3;
/// One in this many typed characters may be wrong. A name farther away is not suggested.
const WRONG: usize = 3;
/// Words from which a text counts as a question.
const QUESTION: usize = 3;
/// The maximum number of suggested topics.
const MOST: usize = 5;

/// The topics that a user selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// One topic.
    Topic(Topic),
    /// All topics of a kind.
    Group(TopicGroup),
}

/// No topic has the given name. The variants hold names to suggest, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// Names that contain the text or are nearly the same.
    Similar(Vec<&'static str>),
    /// Topics whose pages mention the text.
    MentionedIn(Vec<&'static str>),
    /// No suggestion.
    Nothing,
}

/// Finds the topic or the group with the name `text`.
///
/// # Errors
/// No topic has that name: [`NotFound`], with suggestions.
pub fn find(text: &str) -> Result<Selection, NotFound> {
    let asked = plain(text);
    if let Some((_, found)) = known().find(|(name, _)| plain(name) == asked) {
        return Ok(found);
    }
    let letters = asked.chars().count();
    if letters > LONGEST {
        return Err(NotFound::Nothing);
    }
    let mut like = with_part(text);
    if like.is_empty() {
        like = mentioned(text).map(with_part).unwrap_or_default();
    }
    if like.is_empty() {
        let mentioned_in = keys(
            Topic::all()
                .filter(|&topic| mentions(topic, text.trim()))
                .map(Selection::Topic),
        );
        if !mentioned_in.is_empty() {
            return Err(NotFound::MentionedIn(mentioned_in));
        }
        let distance = |name: &str| damerau_levenshtein(&plain(name), &asked);
        let nearest = known().map(|(name, found)| (distance(name), found));
        let nearest = nearest.min_by_key(|&(distance, _)| distance);
        let nearest = nearest.filter(|&(distance, _)| distance <= letters / WRONG);
        like = keys(nearest.map(|(_, found)| found).into_iter());
    }
    Err(if like.is_empty() {
        NotFound::Nothing
    } else {
        NotFound::Similar(like)
    })
}

/// The names of the first [`MOST`] items, without duplicates.
fn keys(found: impl Iterator<Item = Selection>) -> Vec<&'static str> {
    let mut keys = Vec::new();
    for key in found.map(Selection::key) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys.truncate(MOST);
    keys
}

/// The topics with a name in which a word starts with `part`.
fn with_part(part: &str) -> Vec<&'static str> {
    let begins = format!(" {}", spaced(part));
    let has = |name: &str| format!(" {}", spaced(name)).contains(&begins);
    let is_enough = plain(part).chars().count() >= SHORTEST;
    keys(
        known()
            .filter(|(name, _)| is_enough && has(name))
            .map(|(_, found)| found),
    )
}

/// The longest name within the words of `text`, if `text` is a question.
fn mentioned(text: &str) -> Option<&'static str> {
    let words = |text: &str| format!(" {} ", spaced(text.trim_end_matches(['?', '？', '.'])));
    if text.split_whitespace().count() < QUESTION {
        return None;
    }
    let text = words(text);
    known()
        .map(|(name, _)| name)
        .filter(|name| text.contains(&words(name)))
        .max_by_key(|name| name.len())
}

/// Whether the page of `topic` mentions the name `word`. A name has an underscore or only capitals, or it is a known counter,
/// with or without the group that nstat(8) puts before it.
fn mentions(topic: Topic, word: &str) -> bool {
    let counter = Counter::ALL.into_iter().map(Counter::name).find_map(|(group, name)| {
        let full = format!("{group}{name}");
        let is_it = [name, full.as_str()].iter().any(|name| name.eq_ignore_ascii_case(word));
        is_it.then_some((name, full))
    });
    let is_name = |word: &str| {
        let capitals = |letter: u8| letter.is_ascii_uppercase() || letter.is_ascii_digit();
        word.contains('_') || word.len() >= SHORTEST && word.bytes().all(capitals)
    };
    let page = explain::page(topic, Lang::En);
    let mut words = page
        .parts
        .iter()
        .flat_map(|part| part.text)
        .flat_map(|text| text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_'));
    words.any(|found| match &counter {
        Some((name, full)) => found == *name || found == full,
        None => is_name(found) && found.eq_ignore_ascii_case(word),
    })
}

impl Selection {
    /// The name, as typed.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Topic(topic) => topic.key(),
            Self::Group(group) => group.key(),
        }
    }
}

/// All names and what they select. The names of topics come before their other names.
fn known() -> impl Iterator<Item = (&'static str, Selection)> {
    let keys = Topic::all().map(|topic| (topic.key(), Selection::Topic(topic)));
    let groups = TopicGroup::ALL.map(|group| (group.key(), Selection::Group(group)));
    let others = Topic::all().flat_map(|topic| {
        let names = other_names(topic).into_iter();
        names.map(move |name| (name, Selection::Topic(topic)))
    });
    keys.chain(groups).chain(others)
}

/// The names of `topic` in other tools and in other commands of tcpwatch.
fn other_names(topic: Topic) -> Vec<&'static str> {
    match topic {
        Topic::State(state) => Names::for_state(state).all().to_vec(),
        Topic::Ending(ending) => {
            let mut names = vec![ending.key(), ending.words(), ending.short()];
            names.extend(errors(ending));
            names
        }
        Topic::Finding(FindingKind::Leak) => {
            let verdicts = Verdict::ALL.into_iter().filter(|&verdict| verdict != Verdict::Leak);
            verdicts.map(Verdict::key).chain(["EMFILE"]).collect()
        }
        Topic::Setting(Setting::FileMax) => vec![Setting::FileMax.sysctl(), "fs.file-nr", "file-nr", "ENFILE"],
        Topic::Setting(Setting::TcpSyncookies) => vec![Setting::TcpSyncookies.sysctl(), "SYN cookies"],
        Topic::Setting(setting) => vec![setting.sysctl()],
        Topic::Finding(_) => Vec::new(),
        Topic::NoTimeWait => Lang::ALL.map(|lang| explain::page(topic, lang).about).to_vec(),
    }
}

/// The errors (errno(3)) that only `ending` gives to an application. ETIMEDOUT has several endings.
const fn errors(ending: Ending) -> &'static [&'static str] {
    match ending {
        Ending::ResetByPeer => &["ECONNRESET", "EPIPE"],
        Ending::Refused => &["ECONNREFUSED"],
        Ending::Unreachable => &["EHOSTUNREACH", "ENETUNREACH"],
        Ending::NoPort => &["EADDRNOTAVAIL"],
        Ending::Killed => &["ECONNABORTED"],
        _ => &[],
    }
}

/// Normalises `name`: ignores case, hyphens, underscores, spaces and question marks, and turns a path under /proc/sys into a
/// sysctl name.
fn plain(name: &str) -> String {
    let name = name.trim().trim_start_matches("/proc/sys/");
    name.chars()
        .filter(|letter| !matches!(letter, '-' | '_' | ' ' | '?' | '？'))
        .map(|letter| {
            if letter == '/' {
                '.'
            } else {
                letter.to_ascii_lowercase()
            }
        })
        .collect()
}

/// `name` in lower case, with a space between its words.
fn spaced(name: &str) -> String {
    let between = |letter| matches!(letter, '-' | '_' | '.' | '/');
    name.trim().to_ascii_lowercase().replace(between, " ")
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::TcpState;

    use super::*;
    use crate::explain::kind::FindingKind;
    use crate::input::setting::Setting;
    use crate::model::ending::Ending;

    #[test]
    fn a_topic_is_found_however_it_is_written() {
        for (text, topic) in [
            ("close_wait", Topic::State(TcpState::CloseWait)),
            ("CLOSE-WAIT", Topic::State(TcpState::CloseWait)),
            ("CloseWait", Topic::State(TcpState::CloseWait)),
            ("close wait", Topic::State(TcpState::CloseWait)),
            ("TCP_CLOSE_WAIT", Topic::State(TcpState::CloseWait)),
            ("ESTAB", Topic::State(TcpState::Established)),
            ("FIN-WAIT-1", Topic::State(TcpState::FinWait1)),
            ("fin_wait1", Topic::State(TcpState::FinWait1)),
            ("SYN-RECEIVED", Topic::State(TcpState::SynRecv)),
            ("UNCONN", Topic::State(TcpState::Close)),
            ("closed", Topic::State(TcpState::Close)),
            ("Reset-By-Peer", Topic::Ending(Ending::ResetByPeer)),
            ("port-exhaustion", Topic::Finding(FindingKind::PortExhaustion)),
            ("net.ipv4.tcp_tw_reuse", Topic::Setting(Setting::TcpTwReuse)),
            ("/proc/sys/net/ipv4/tcp_tw_reuse", Topic::Setting(Setting::TcpTwReuse)),
            ("tcp_tw_reuse", Topic::Setting(Setting::TcpTwReuse)),
            ("file-max", Topic::Setting(Setting::FileMax)),
            ("fs.file-max", Topic::Setting(Setting::FileMax)),
            ("no-time-wait", Topic::NoTimeWait),
            ("why did my active close not go to TIME_WAIT?", Topic::NoTimeWait),
            ("Why did my active close not go to time wait", Topic::NoTimeWait),
            ("file-nr", Topic::Setting(Setting::FileMax)),
        ] {
            assert_eq!(find(text), Ok(Selection::Topic(topic)), "{text}");
        }
        assert_eq!(find("STATES"), Ok(Selection::Group(TopicGroup::States)));
    }

    #[test]
    fn names_are_found_and_are_unambiguous() {
        for topic in Topic::all() {
            assert_eq!(find(topic.key()), Ok(Selection::Topic(topic)));
        }
        for (name, asked) in known() {
            // `orphan limit` is both a finding and the short name of out_of_memory.
            let is_limit = name == Ending::OutOfMemory.short();
            assert!(find(name) == Ok(asked) || is_limit, "{name}");
        }
    }

    #[test]
    fn names_of_other_commands_and_errors_are_found() {
        for ending in Ending::ALL {
            for name in [ending.key(), ending.words()] {
                assert_eq!(find(name), Ok(Selection::Topic(Topic::Ending(ending))), "{name}");
            }
        }
        for (text, topic) in [
            ("unread", Topic::Finding(FindingKind::Leak)),
            ("pool", Topic::Finding(FindingKind::Leak)),
            ("undecided", Topic::Finding(FindingKind::Leak)),
            ("burst", Topic::Finding(FindingKind::Burst)),
            ("host", Topic::Finding(FindingKind::Host)),
            ("ECONNRESET", Topic::Ending(Ending::ResetByPeer)),
            ("econnrefused", Topic::Ending(Ending::Refused)),
            ("EMFILE", Topic::Finding(FindingKind::Leak)),
        ] {
            assert_eq!(find(text), Ok(Selection::Topic(topic)), "{text}");
        }
    }

    #[test]
    fn unknown_names_get_only_relevant_suggestions() {
        let like = |names: &[&'static str]| Err(NotFound::Similar(names.to_vec()));
        for (text, nearest) in [
            ("close_wiat", "close_wait"),
            ("timewait2", "time_wait"),
            ("tcp_tw_resue", "tcp_tw_reuse"),
            ("leaks", "leak"),
            ("somaxcon", "somaxconn"),
            ("conntrack", "nf_conntrack_max"),
            ("cookies", "tcp_syncookies"),
            ("what is tcp_fin_timeout?", "tcp_fin_timeout"),
        ] {
            assert_eq!(find(text), like(&[nearest]), "{text}");
        }
        assert_eq!(
            find("Why did this close skip TIME_WAIT?"),
            like(&[
                "time_wait",
                "time_wait_overflow",
                "no_time_wait",
                "graceful_active",
                "simultaneous"
            ])
        );
        assert_eq!(
            find("tcp_keepalive"),
            like(&["tcp_keepalive_time", "tcp_keepalive_intvl", "tcp_keepalive_probes"])
        );
        for (text, page) in [
            ("tcp_syn_linear_timeouts", "tcp_syn_retries"),
            ("tcp_mem", "out_of_memory"),
            ("SO_LINGER", "reset_linger"),
            ("EADDRINUSE", "port_exhaustion"),
            ("etimedout", "timeout_connect"),
            ("ListenOverflows", "accept_queue_overflow"),
            ("TcpExtListenOverflows", "accept_queue_overflow"),
            ("TCPAbortOnMemory", "out_of_memory"),
            ("SyncookiesSent", "syn_flood"),
        ] {
            let found = find(text);
            assert!(
                matches!(&found, Err(NotFound::MentionedIn(pages)) if pages.contains(&page)),
                "{text}: {found:?}"
            );
        }
        for text in ["", "-", "ab", "the", "proxy", "kubernetes", &"x".repeat(10_000)] {
            assert_eq!(find(text), Err(NotFound::Nothing), "{text}");
        }
    }
}
