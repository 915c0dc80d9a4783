//! What was asked for, in words: `port 8080, this network namespace`.

use std::fmt::Display;

use tcpwatch_common::{StateSet, TcpState};

use super::number::{several, thousands};
use crate::input::escaped::Escaped;
use crate::input::netns_selector::NetnsSelector;
use crate::input::socket_owner::Unseen;
use crate::model::filter::{Filter, PortSet};
use crate::model::unseen::why_unseen;

/// Events of the whole host that no program handled: in one network namespace it is unknown whether they were its own.
#[must_use]
pub fn missed(events: u64) -> String {
    let of = if events == 1 { "event" } else { "events" };
    format!(
        "the kernel skipped {} {of} of this host, maybe of other network namespaces",
        thousands(events)
    )
}

/// The parts of `filter`, one phrase each; none for a filter that lets everything through.
#[must_use]
pub fn filter(filter: &Filter) -> Vec<String> {
    let mut words = Vec::new();
    let mut ports = |what: &str, ports: &PortSet| {
        if !ports.is_any() {
            words.push(format!("{what} {ports}"));
        }
    };
    ports("port", &filter.port);
    ports("local port", &filter.lport);
    ports("remote port", &filter.rport);
    if !filter.local.is_empty() {
        words.push(format!("local address in {}", list(&filter.local)));
    }
    if !filter.remote.is_empty() {
        words.push(format!("remote address in {}", list(&filter.remote)));
    }
    words.extend(filter.family.map(|family| match family.key() {
        "ipv4" => "IPv4".into(),
        _ => "IPv6".into(),
    }));
    if filter.states != StateSet::ALL {
        let states = TcpState::ALL.into_iter().filter(|&state| filter.states.contains(state));
        words.push(list(&states.map(TcpState::name).collect::<Vec<_>>()));
    }
    words.extend(filter.uid.map(|uid| format!("user id {uid}")));
    let owner = &filter.owner;
    if !owner.pids.is_empty() {
        words.push(format!("process {}", list(&owner.pids)));
    }
    if !owner.comms.is_empty() {
        words.push(format!("process named {}", list(&owner.comms)));
    }
    if !owner.cgroups.is_empty() {
        let cgroups: Vec<_> = owner.cgroups.iter().map(|asked| Escaped(asked.as_bytes())).collect();
        words.push(format!("cgroup {}", list(&cgroups)));
    }
    words
}

fn list(items: &[impl Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

/// The network namespaces looked at, `count` of them.
#[must_use]
pub fn namespaces(which: &NetnsSelector, count: usize) -> String {
    match which {
        NetnsSelector::Own => "this network namespace".into(),
        NetnsSelector::All => format!("all network namespaces ({count})"),
        NetnsSelector::Pid(pid) => format!("network namespace of PID {pid}"),
        // A path may hold what a terminal obeys.
        NetnsSelector::Path(path) => format!("network namespace {}", path.display().to_string().escape_debug()),
    }
}

/// What was not seen of the owners, why, and what to type; `None` where it makes no difference.
#[must_use]
pub fn unseen(unseen: &Unseen) -> Option<String> {
    let why = why_unseen(unseen)?;
    let sockets = several(unseen.sockets, "connection has", "connections have");
    Some(format!("{sockets} no owner that could be seen; {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::owner::Comm;
    use crate::input::socket::Family;
    use crate::model::filter::owner::OwnerFilter;
    use crate::model::unseen::some_unseen;

    #[test]
    fn a_filter_reads_as_it_was_typed() {
        let asked = Filter {
            port: "80,8000-8999".parse().unwrap(),
            remote: vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
            family: Some(Family::Ipv6),
            states: StateSet::NONE.with(TcpState::CloseWait).with(TcpState::TimeWait),
            uid: Some(0),
            owner: OwnerFilter {
                pids: vec![std::num::NonZeroU32::MIN],
                comms: vec![Comm::new(b"nginx"), Comm::new(b"a\x1b")],
                cgroups: vec!["/a\n".into()],
            },
            ..Filter::default()
        };
        assert_eq!(
            filter(&asked).join(", "),
            "port 80,8000-8999, remote address in 10.0.0.0/8 or ::1/128, IPv6, TIME_WAIT or CLOSE_WAIT, user id 0, \
             process 1, process named nginx or a\\u{1b}, cgroup /a\\n"
        );
        assert!(filter(&Filter::default()).is_empty());
    }

    #[test]
    fn what_is_unseen_is_told_where_it_matters() {
        let sight = Unseen {
            sockets: 1,
            processes: 1,
            root_sees_more: true,
            ..Unseen::default()
        };
        assert_eq!(
            unseen(&sight).as_deref(),
            Some("1 connection has no owner that could be seen; 1 process could not be read: run tcpwatch with sudo")
        );
        assert_eq!(
            some_unseen(&sight).as_deref(),
            Some("some owners cannot be seen; 1 process could not be read: run tcpwatch with sudo")
        );
        let blind = Unseen {
            sockets: 1200,
            processes: 0,
            hidden: true,
            descriptors: 2,
            root_sees_more: false,
        };
        assert_eq!(
            unseen(&blind).as_deref(),
            Some(
                "1,200 connections have no owner that could be seen; \
                 /proc hides other users' processes (hidepid), 2 descriptors were left out"
            )
        );
        assert_eq!(some_unseen(&blind), None, "root sees no more");
        for (seen, why) in [
            (Unseen { sockets: 0, ..sight }, "all were seen"),
            (Unseen { processes: 0, ..sight }, "nobody was hidden"),
        ] {
            assert_eq!((unseen(&seen), some_unseen(&seen)), (None, None), "{why}");
        }
    }

    #[test]
    fn a_path_cannot_steer_the_terminal() {
        let path = NetnsSelector::Path("/run/\x1b[2J".into());
        assert_eq!(namespaces(&path, 1), "network namespace /run/\\u{1b}[2J");
        assert_eq!(namespaces(&NetnsSelector::All, 3), "all network namespaces (3)");
    }
}
