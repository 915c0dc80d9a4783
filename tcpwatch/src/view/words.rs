//! What was asked for, in words: `port 8080, this network namespace`.

use std::fmt::Display;

use tcpwatch_common::{StateSet, TcpState};

use crate::model::filter::{Filter, PortSet};
use crate::sys::netns::Which;

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
    words
}

fn list(items: &[impl Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

/// The network namespaces looked at, `count` of them.
#[must_use]
pub fn namespaces(which: &Which, count: usize) -> String {
    match which {
        Which::Own => "this network namespace".into(),
        Which::All => format!("all network namespaces ({count})"),
        Which::Pid(pid) => format!("network namespace of PID {pid}"),
        // A path may hold what a terminal obeys.
        Which::Path(path) => format!("network namespace {}", path.display().to_string().escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::socket::Family;

    #[test]
    fn a_filter_reads_as_it_was_typed() {
        let asked = Filter {
            port: "80,8000-8999".parse().unwrap(),
            remote: vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
            family: Some(Family::Ipv6),
            states: StateSet::NONE.with(TcpState::CloseWait).with(TcpState::TimeWait),
            uid: Some(0),
            ..Filter::default()
        };
        assert_eq!(
            filter(&asked).join(", "),
            "port 80,8000-8999, remote address in 10.0.0.0/8 or ::1/128, IPv6, TIME_WAIT or CLOSE_WAIT, user id 0"
        );
        assert!(filter(&Filter::default()).is_empty());
    }

    #[test]
    fn a_path_cannot_steer_the_terminal() {
        let path = Which::Path("/run/\x1b[2J".into());
        assert_eq!(namespaces(&path, 1), "network namespace /run/\\u{1b}[2J");
        assert_eq!(namespaces(&Which::All, 3), "all network namespaces (3)");
    }
}
