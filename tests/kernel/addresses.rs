//! Addresses, ports and family are those `ss` shows.

use std::net::{Ipv6Addr, SocketAddr};

use crate::support::netns::in_netns;
use crate::support::peers::ss;
use crate::support::program::trace::{Probe, Trace};
use crate::support::program::{Hook, on_both_hooks};
use crate::support::sockets::{Pair, accept, address, connect, listen, pair, read_eof};
use crate::support::{LOOPBACK, LOOPBACK_MAPPED, LOOPBACK_V6};

on_both_hooks!(are_those_of_ss, a_family_or_a_state_is_chosen);

/// Everything that says where a socket is, in one line.
type Place = (String, String, Option<u64>, String, Option<u64>);

fn are_those_of_ss(hook: Hook) {
    in_netns(|_| {
        let trace = Trace::start(hook, &[]);
        let everywhere = listen(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 8081), 8);
        let port = address(&everywhere).port();
        let mapped = connect(SocketAddr::new(LOOPBACK_MAPPED, port));
        let plain = connect(SocketAddr::new(LOOPBACK, port));
        let accepted = [accept(&everywhere), accept(&everywhere)];
        let listeners = [
            listen(SocketAddr::new(LOOPBACK, 8080), 8),
            listen(SocketAddr::new(LOOPBACK_V6, 8080), 8),
        ];
        let pairs = listeners.each_ref().map(pair);
        // Three listeners, four clients, four children.
        let events = trace.until_events(3 + 2 * 4 + 2 * 4);
        let mut ours: Vec<Place> = events
            .iter()
            .filter(|event| event.to == 1)
            .map(|event| {
                (
                    event.family.clone(),
                    event.local.clone(),
                    event.lport,
                    event.remote.clone(),
                    event.rport,
                )
            })
            .collect();
        let mut theirs: Vec<Place> = ss::rows()
            .into_iter()
            .filter(|row| row.state == "established")
            .map(|row| {
                let family = if row.ipv6 { "ipv6" } else { "ipv4" };
                let (local, remote) = (row.local.0.to_string(), row.remote.0.to_string());
                (
                    family.to_owned(),
                    local,
                    Some(row.local.1.into()),
                    remote,
                    Some(row.remote.1.into()),
                )
            })
            .collect();
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs);
        trace.finish();
        drop((mapped, plain, accepted, pairs));
    });
}

/// `-4`, `-6` and `--state` of a trace.
fn a_family_or_a_state_is_chosen(hook: Hook) {
    in_netns(|_| {
        let ipv4 = Trace::start(hook, &["-4"]);
        let ipv6 = Trace::probed(hook, &["-6"], Probe { port: 0, ipv6: true });
        let closing = Trace::start(hook, &["--state", "fin_wait2"]);
        for at in [LOOPBACK, LOOPBACK_V6, LOOPBACK_MAPPED] {
            let listener = listen(SocketAddr::new(at, 0), 8);
            let Pair { client, server } = pair(&listener);
            drop(client);
            read_eof(&server);
        }
        ipv4.until_events(12);
        ipv6.until_events(24);
        closing.until_events(6);
        let families = |trace: Trace| -> Vec<String> {
            let mut families: Vec<String> = trace.finish().events.into_iter().map(|event| event.family).collect();
            families.dedup();
            families
        };
        assert_eq!(families(ipv4), ["ipv4"]);
        assert_eq!(families(ipv6), ["ipv6"]);
        for event in closing.finish().events {
            assert!([(4, 5), (5, 7)].contains(&(event.from, event.to)), "{event:?}");
        }
    });
}
