//! Phrases for the filter, the network namespaces and data that is missing, as in `port 8080, this network namespace`.

use std::fmt::Display;
use std::os::unix::ffi::OsStrExt as _;

use tcpwatch_common::{StateSet, TcpState};

use crate::input::escaped::Escaped;
use crate::input::netns_selector::NetnsSelector;
use crate::input::socket_owner::Unseen;
use crate::model::filter::{Filter, PortSet};
use crate::model::format::several;
use crate::model::unseen::unseen_reason;

/// Reports events that no program handled. The kernel counts them for the whole host, not per network namespace.
#[must_use]
pub fn missed(events: u64) -> String {
    format!(
        "the kernel skipped {} of this host, maybe of other network namespaces",
        several(events, "event", "events")
    )
}

/// Describes `filter`, one phrase per condition; no phrase for a filter that matches every socket.
#[must_use]
pub fn filter(filter: &Filter) -> Vec<String> {
    let mut words = Vec::new();
    let mut ports = |label: &str, ports: &PortSet| {
        if !ports.is_any() {
            words.push(format!("{label} {ports}"));
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
    for (what, values) in [
        ("cgroup", &owner.cgroups),
        ("container", &owner.containers),
        ("pod", &owner.pods),
    ] {
        if !values.is_empty() {
            let values: Vec<_> = values.iter().map(|value| Escaped(value.as_bytes())).collect();
            words.push(format!("{what} {}", list(&values)));
        }
    }
    words
}

fn list(items: &[impl Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

/// Describes the `count` network namespaces that `selector` selects.
#[must_use]
pub fn namespaces(selector: &NetnsSelector, count: usize) -> String {
    match selector {
        NetnsSelector::Own => "this network namespace".into(),
        NetnsSelector::All => format!("all network namespaces ({count})"),
        NetnsSelector::Pid(pid) => format!("network namespace of PID {pid}"),
        NetnsSelector::Path(path) => format!("network namespace {}", Escaped(path.as_os_str().as_bytes())),
    }
}

/// Reports connections of unknown owners, with the reason and what the user can type. `None` where the reason is not known.
#[must_use]
pub fn unseen(unseen: &Unseen) -> Option<String> {
    let why = unseen_reason(unseen)?;
    let sockets = several(unseen.sockets, "socket has", "sockets have");
    Some(format!("{sockets} an unknown owner: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::owner::Comm;
    use crate::input::socket::Family;
    use crate::model::filter::owner::OwnerFilter;
    use crate::model::unseen::unseen_warning;

    #[test]
    fn a_filter_has_a_phrase_per_condition() {
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
                ..OwnerFilter::default()
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
    fn unseen_owners_are_reported_with_the_reason() {
        let unreadable = Unseen {
            sockets: 1,
            processes: 1,
            root_sees_more: true,
            ..Unseen::default()
        };
        assert_eq!(
            unseen(&unreadable).as_deref(),
            Some("1 socket has an unknown owner: 1 process could not be read; try sudo")
        );
        assert_eq!(
            unseen_warning(&unreadable).as_deref(),
            Some("some owners are unknown: 1 process could not be read; try sudo")
        );
        let hidden = Unseen {
            sockets: 1200,
            processes: 0,
            hidden: true,
            descriptors: 2,
            root_sees_more: false,
        };
        assert_eq!(
            unseen(&hidden).as_deref(),
            Some(
                "1,200 sockets have an unknown owner: \
                 /proc hides other users' processes (hidepid), 2 descriptors were left out"
            )
        );
        assert_eq!(unseen_warning(&hidden), None, "root sees no more");
        for (nothing, why) in [
            (
                Unseen {
                    sockets: 0,
                    ..unreadable
                },
                "every owner is known",
            ),
            (
                Unseen {
                    processes: 0,
                    ..unreadable
                },
                "the reason is not known",
            ),
        ] {
            assert_eq!((unseen(&nothing), unseen_warning(&nothing)), (None, None), "{why}");
        }
    }

    #[test]
    fn a_path_with_control_characters_is_escaped() {
        let path = NetnsSelector::Path("/run/\x1b[2J\\".into());
        assert_eq!(namespaces(&path, 1), "network namespace /run/\\u{1b}[2J\\\\");
        assert_eq!(namespaces(&NetnsSelector::All, 3), "all network namespaces (3)");
    }
}
