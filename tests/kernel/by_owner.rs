//! `trace` of some processes tells what these do, and counts the rest.

use std::cell::RefCell;

use crate::support::agent::Agent;
use crate::support::loudly;
use crate::support::netns::in_netns;
use crate::support::program::event::{lives, path};
use crate::support::program::trace::Trace;
use crate::support::program::{Hook, on_both_hooks};

on_both_hooks!(of_a_number, of_a_name, of_several);

const CLIENTS: &str = "7>2 2>1 1>4 4>5 5>7";
const SERVERS: &str = "10>3 3>1 1>8 8>9 9>7";

/// Transitions of a probing connection and its listener.
const PROBE: i64 = 12;

/// A filter's flag and its value, of the client and the server.
type Choose = fn(&Agent, &Agent) -> [String; 2];

/// Traces what a client and a server do, with the filter that `choose` makes of them: `shown` must be told of each of two
/// connections, and nothing else. What probes is the one that `by_server` says.
fn two_connections(hook: Hook, by_server: bool, shown: &[&str], choose: Choose) {
    // Whose a probing connection is may be unknown where the hook came in the middle of it, and then it is counted with the rest.
    for _ in 0..5 {
        if seen_whole(hook, by_server, shown, choose) {
            return;
        }
        loudly("done again: the hook was attached in the middle of a probing connection");
    }
    panic!("the hook was attached in the middle of a probing connection each time");
}

/// The same; false where the first of the probing connections was seen in part, so that what is counted cannot be told.
fn seen_whole(hook: Hook, by_server: bool, shown: &[&str], choose: Choose) -> bool {
    in_netns(|_| {
        let (client, mut server) = (Agent::named("client"), Agent::named("server"));
        server.run("l = socket.create_server(('127.0.0.1', 8080))");
        let args = choose(&client, &server);
        let (client, server) = (RefCell::new(client), RefCell::new(server));
        let prober = if by_server { &server } else { &client };
        let trace = Trace::probed_by(hook, &args.each_ref().map(String::as_str), || {
            prober.borrow_mut().probe();
        });
        let (mut client, mut server) = (client.into_inner(), server.into_inner());
        for _ in 0..2 {
            client.run("c = socket.create_connection(('127.0.0.1', 8080))");
            server.run("s = l.accept()[0]");
            client.run("c.close()");
            server.run("s.recv(1); s.close()");
        }
        trace.until_events(10 * shown.len());
        let traced = trace.finish();
        let lives = lives(&traced.events);
        let paths: Vec<String> = lives.iter().map(|life| path(life)).collect();
        let mut wanted = [shown, shown].concat();
        wanted.sort_unstable();
        let mut sorted = paths.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, wanted, "{}", traced.end);
        for (life, path) in lives.iter().zip(paths) {
            let whose = if path == CLIENTS { &client } else { &server };
            for event in life {
                let owner = event.owner.as_ref().expect("chosen by its owner");
                assert_eq!(owner.pid, Some(whose.pid()), "{event:?}");
            }
        }
        if (traced.number("seen") - 2 * 10) % PROBE != 0 {
            return false;
        }
        let untold = 2 * 5 * (2 - shown.len());
        assert_eq!(
            usize::try_from(traced.number("unmatched")),
            Ok(untold),
            "{}",
            traced.end
        );
        true
    })
}

fn of_a_number(hook: Hook) {
    two_connections(hook, false, &[CLIENTS], |client, _| {
        ["--pid".to_owned(), client.pid().to_string()]
    });
}

fn of_a_name(hook: Hook) {
    two_connections(hook, true, &[SERVERS], |_, _| {
        ["--comm".to_owned(), "server".to_owned()]
    });
}

fn of_several(hook: Hook) {
    two_connections(hook, true, &[CLIENTS, SERVERS], |client, server| {
        ["-p".to_owned(), format!("{},{}", client.pid(), server.pid())]
    });
}
