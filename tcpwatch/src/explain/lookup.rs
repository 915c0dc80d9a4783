//! Finds what was asked for, however it is written: `CLOSE-WAIT`, `ESTAB`, `net.ipv4.tcp_tw_reuse`, `peer closed first`, `EMFILE`.

use strsim::damerau_levenshtein;

use super::group::Group;
use super::lang::Lang;
use super::names::Names;
use super::topic::Topic;
use crate::explain;
use crate::explain::kind::Kind;
use crate::input::counter::Counter;
use crate::input::setting::Setting;
use crate::model::ending::Ending;
use crate::model::leaks::{Doubt, Verdict};

/// Letters of the longest text that is looked into: no name is as long.
const LONGEST: usize = 128;
/// Letters from which a part of a name says which is meant.
const SHORTEST: usize = 3;
/// Of the letters asked for, one in so many may be wrong: a name farther off is not what was meant.
const WRONG: usize = 3;
/// Words from which a text is a question.
const QUESTION: usize = 3;
/// Topics suggested at most.
const MOST: usize = 5;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// One topic.
    Topic(Topic),
    /// All topics of a kind.
    Group(Group),
}

/// Nothing has the name that was asked for: what may have been meant, the names as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// One of these, whose name has it in it, or is nearly the same.
    Like(Vec<&'static str>),
    /// Something that the pages of these tell of.
    ToldIn(Vec<&'static str>),
    /// Nobody knows what.
    Nothing,
}

/// What `text` asks for.
///
/// # Errors
/// Nothing has that name.
pub fn find(text: &str) -> Result<Asked, Unknown> {
    let asked = plain(text);
    if let Some((_, found)) = known().find(|(name, _)| plain(name) == asked) {
        return Ok(found);
    }
    let letters = asked.chars().count();
    if letters > LONGEST {
        return Err(Unknown::Nothing);
    }
    let mut like = with_part(text);
    if like.is_empty() {
        like = mentioned(text).map(with_part).unwrap_or_default();
    }
    if like.is_empty() {
        let told_in = keys(
            Topic::all()
                .filter(|&topic| tells_of(topic, text.trim()))
                .map(Asked::Topic),
        );
        if !told_in.is_empty() {
            return Err(Unknown::ToldIn(told_in));
        }
        let distance = |name: &str| damerau_levenshtein(&plain(name), &asked);
        let nearest = known().map(|(name, found)| (distance(name), found));
        let nearest = nearest.min_by_key(|&(distance, _)| distance);
        let nearest = nearest.filter(|&(distance, _)| distance <= letters / WRONG);
        like = keys(nearest.map(|(_, found)| found).into_iter());
    }
    Err(if like.is_empty() {
        Unknown::Nothing
    } else {
        Unknown::Like(like)
    })
}

/// The names of the first few, each once.
fn keys(found: impl Iterator<Item = Asked>) -> Vec<&'static str> {
    let mut keys = Vec::new();
    for key in found.map(Asked::key) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys.truncate(MOST);
    keys
}

/// What has a word in its name that begins with `part`, or words that do.
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

/// The longest name that is among the words of `text`, where those are more than a name has: a question.
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

/// Whether the page of `topic` names `word`. Names are told from words by an underscore, or by capitals alone; those of counters are
/// known, and nstat(8) writes them with their group.
fn tells_of(topic: Topic, word: &str) -> bool {
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
    words.any(|told| match &counter {
        Some((name, full)) => told == *name || told == full,
        None => is_name(told) && told.eq_ignore_ascii_case(word),
    })
}

impl Asked {
    /// Its name, as typed.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Topic(topic) => topic.key(),
            Self::Group(group) => group.key(),
        }
    }
}

/// Every name there is, with what it stands for; those of topics come before what else they are called.
fn known() -> impl Iterator<Item = (&'static str, Asked)> {
    let keys = Topic::all().map(|topic| (topic.key(), Asked::Topic(topic)));
    let groups = Group::ALL.map(|group| (group.key(), Asked::Group(group)));
    let others = Topic::all().flat_map(|topic| {
        let names = other_names(topic).into_iter();
        names.map(move |name| (name, Asked::Topic(topic)))
    });
    keys.chain(groups).chain(others)
}

/// What other tools call `topic`, and the other commands of this one.
fn other_names(topic: Topic) -> Vec<&'static str> {
    match topic {
        Topic::State(state) => Names::of(state).all().to_vec(),
        Topic::Ending(ending) => {
            let mut names = vec![ending.key(), ending.words(), ending.short()];
            names.extend(errors(ending));
            names
        }
        Topic::Finding(Kind::Leak) => vec![
            Verdict::Slow.key(),
            Verdict::StuckReader.key(),
            Verdict::Undecided(Doubt::OneLook).key(),
            "EMFILE",
        ],
        Topic::Setting(Setting::FileMax) => vec![Setting::FileMax.sysctl(), "fs.file-nr", "file-nr", "ENFILE"],
        Topic::Setting(Setting::TcpSyncookies) => vec![Setting::TcpSyncookies.sysctl(), "SYN cookies"],
        Topic::Setting(setting) => vec![setting.sysctl()],
        Topic::Finding(_) => Vec::new(),
        Topic::NoTimeWait => Lang::ALL.map(|lang| explain::page(topic, lang).about).to_vec(),
    }
}

/// The errors (errno(3)) that an application gets by `ending` and by no other. ETIMEDOUT has several.
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

/// `name` without what people write differently: case, hyphens and underscores, slashes of a path under /proc/sys, the question mark.
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

/// `name` in small letters, with a blank between its words.
fn spaced(name: &str) -> String {
    let between = |letter| matches!(letter, '-' | '_' | '.' | '/');
    name.trim().to_ascii_lowercase().replace(between, " ")
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::TcpState;

    use super::*;
    use crate::explain::kind::Kind;
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
            ("port-exhaustion", Topic::Finding(Kind::PortExhaustion)),
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
            assert_eq!(find(text), Ok(Asked::Topic(topic)), "{text}");
        }
        assert_eq!(find("STATES"), Ok(Asked::Group(Group::States)));
    }

    #[test]
    fn every_topic_is_found_by_its_name_and_no_name_stands_for_two() {
        for topic in Topic::all() {
            assert_eq!(find(topic.key()), Ok(Asked::Topic(topic)));
        }
        for (name, asked) in known() {
            // What `orphan limit` says in few words, out_of_memory, may be the one or the other.
            let is_limit = name == Ending::OutOfMemory.short();
            assert!(find(name) == Ok(asked) || is_limit, "{name}");
        }
    }

    #[test]
    fn what_other_commands_and_applications_say_is_found() {
        for ending in Ending::ALL {
            for name in [ending.key(), ending.words()] {
                assert_eq!(find(name), Ok(Asked::Topic(Topic::Ending(ending))), "{name}");
            }
        }
        for (text, topic) in [
            ("stuck_reader", Topic::Finding(Kind::Leak)),
            ("slow", Topic::Finding(Kind::Leak)),
            ("undecided", Topic::Finding(Kind::Leak)),
            ("burst", Topic::Finding(Kind::Burst)),
            ("host", Topic::Finding(Kind::Host)),
            ("ECONNRESET", Topic::Ending(Ending::ResetByPeer)),
            ("econnrefused", Topic::Ending(Ending::Refused)),
            ("EMFILE", Topic::Finding(Kind::Leak)),
        ] {
            assert_eq!(find(text), Ok(Asked::Topic(topic)), "{text}");
        }
    }

    #[test]
    fn what_is_unknown_suggests_what_may_be_meant_and_nothing_else() {
        let like = |names: &[&'static str]| Err(Unknown::Like(names.to_vec()));
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
            let told = find(text);
            assert!(
                matches!(&told, Err(Unknown::ToldIn(pages)) if pages.contains(&page)),
                "{text}: {told:?}"
            );
        }
        for text in ["", "-", "ab", "the", "pool", "kubernetes", &"x".repeat(10_000)] {
            assert_eq!(find(text), Err(Unknown::Nothing), "{text}");
        }
    }
}
