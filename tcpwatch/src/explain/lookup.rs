//! Finds what was asked for, however it is written: `CLOSE-WAIT`, `ESTAB`, `net.ipv4.tcp_tw_reuse`.

use strsim::damerau_levenshtein;

use super::group::Group;
use super::names::Names;
use super::topic::Topic;

/// Letters of a name that are compared: no name is as long.
const LONGEST: usize = 64;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// One topic.
    Topic(Topic),
    /// All topics of a kind.
    Group(Group),
}

/// What `text` asks for.
///
/// # Errors
/// Nothing has that name: the name most like it.
pub fn find(text: &str) -> Result<Asked, &'static str> {
    let asked = plain(text);
    if let Some((_, found)) = known().find(|(name, _)| plain(name) == asked) {
        return Ok(found);
    }
    let asked: String = asked.chars().take(LONGEST).collect();
    let nearest = known().min_by_key(|(name, _)| damerau_levenshtein(&plain(name), &asked));
    Err(nearest.map_or("", |(_, found)| found.key()))
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

/// Every name there is, with what it stands for.
fn known() -> impl Iterator<Item = (&'static str, Asked)> {
    let topics = Topic::all().flat_map(|topic| {
        let others: Vec<&str> = match topic {
            Topic::State(state) => Names::of(state).all().to_vec(),
            Topic::Setting(setting) => vec![setting.sysctl()],
            _ => Vec::new(),
        };
        [topic.key()]
            .into_iter()
            .chain(others)
            .map(move |name| (name, Asked::Topic(topic)))
    });
    topics.chain(Group::ALL.map(|group| (group.key(), Asked::Group(group))))
}

/// `name` without what people write differently: case, hyphens and underscores, slashes of a path under /proc/sys.
fn plain(name: &str) -> String {
    let name = name.trim().trim_start_matches("/proc/sys/");
    name.chars()
        .filter(|letter| !matches!(letter, '-' | '_' | ' '))
        .map(|letter| {
            if letter == '/' {
                '.'
            } else {
                letter.to_ascii_lowercase()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::TcpState;

    use super::*;
    use crate::diagnose::kind::Kind;
    use crate::explain::setting::Setting;
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
            assert_eq!(find(name), Ok(asked), "{name}");
        }
    }

    #[test]
    fn what_is_unknown_suggests_the_nearest() {
        for (text, nearest) in [
            ("close_wiat", "close_wait"),
            ("timewait2", "time_wait"),
            ("tcp_tw_resue", "tcp_tw_reuse"),
            ("tcp_keepalive", "tcp_keepalive_time"),
            ("leaks", "leak"),
            ("somaxcon", "somaxconn"),
        ] {
            assert_eq!(find(text), Err(nearest), "{text}");
        }
        assert!(find("").is_err());
        assert!(find(&"x".repeat(10_000)).is_err());
    }
}
