//! Whose the connections are that nobody has accepted yet: of whoever listens, where that is one process.

use std::fs;

use serde_json::Value;

use super::{
    ACCEPT, CLOSE, CLOSE_TOO, CONNECT, CONNECT_TWICE, CONNECTION, LISTEN, TWO_WORKERS, assert_owners, assert_workers,
    is_before_accept, is_listeners, is_servers, workers,
};
use crate::support::agent::Agent;
use crate::support::clock::until;
use crate::support::netns::in_netns;
use crate::support::program::event::{Event, Owner};
use crate::support::program::trace::Trace;
use crate::support::program::{Hook, on_both_hooks};

on_both_hooks!(
    a_listener_from_before_the_start,
    a_listener_that_executes_another_program,
    a_listener_of_which_a_thread_executes_another_program,
    a_listener_whose_process_ended,
    the_id_of_a_listener_that_ended_is_anothers,
    another_listens_whatever_the_filter,
    two_processes_listen_on_one_port,
);

fn a_listener_from_before_the_start(hook: Hook) {
    in_netns(|_| {
        let (mut master, mut client) = (Agent::named("master"), Agent::named("client"));
        master.run(LISTEN);
        master.run(TWO_WORKERS);
        let workers = workers(&mut master);
        for pid in &workers {
            until("the workers to have their name", || {
                fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "worker\n")
            });
        }
        let trace = Trace::start(hook, &[]);
        client.run(CONNECT_TWICE);
        trace.until_events(2 * CONNECTION);
        assert_workers(&trace.finish().events, &master, &workers);
    });
}

fn a_listener_that_executes_another_program(hook: Hook) {
    executes_another_program(hook, false);
}

/// All threads but this one end, and it gets the number of the first.
fn a_listener_of_which_a_thread_executes_another_program(hook: Hook) {
    executes_another_program(hook, true);
}

fn executes_another_program(hook: Hook, in_a_thread: bool) {
    in_netns(|_| {
        let trace = Trace::start(hook, &[]);
        let place = tempfile::tempdir().expect("a temporary directory");
        let (mut server, mut client) = (Agent::named("before"), Agent::named("client"));
        server.run(LISTEN);
        server.run("l.set_inheritable(True)");
        let fd = server.give("l.fileno()");
        let before = server.owner("listen");
        server.become_another(&place.path().join("after"), in_a_thread);
        server.run(&format!("l = socket.socket(fileno={fd})"));
        client.run(CONNECT);
        server.run(ACCEPT);
        client.run(CLOSE);
        server.run(CLOSE_TOO);
        trace.until_events(1 + CONNECTION);
        assert_owners(&trace.finish().events, |event| {
            if is_listeners(event) {
                Some(before.clone())
            } else if is_before_accept(event) {
                Some(server.owner("listen"))
            } else if is_servers(event) {
                Some(server.owner("accept"))
            } else {
                Some(client.owner("connect"))
            }
        });
    });
}

/// Another process has the socket, and nothing tells which.
fn a_listener_whose_process_ended(hook: Hook) {
    in_netns(|_| {
        let trace = Trace::start(hook, &[]);
        let (mut server, mut client) = (Agent::named("server"), Agent::named("client"));
        server.run(
            "
told, tell = os.pipe()
ended = os.fork()
if ended == 0:
    rename('ended')
    l = socket.create_server(('127.0.0.1', 8080))
    holder = os.fork()
    if holder == 0:
        rename('holder')
        s = l.accept()[0]
        os.write(tell, b'1')
        s.recv(1)
        s.close()
        os._exit(0)
    os.write(tell, str(holder).encode())
    os._exit(0)
os.waitpid(ended, 0)
",
        );
        let holder = Owner {
            pid: server.give("int(os.read(told, 16))").as_u64(),
            comm: "holder".to_owned(),
            how: "accept".to_owned(),
        };
        client.run(CONNECT);
        // Accepted before the peer closes, or else what follows has no owner yet.
        server.run("os.read(told, 1)");
        client.run(CLOSE);
        trace.until_events(1 + CONNECTION);
        assert_owners(&trace.finish().events, |event| {
            if is_listeners(event) {
                event.owner.clone()
            } else if is_before_accept(event) {
                None
            } else if is_servers(event) {
                Some(holder.clone())
            } else {
                Some(client.owner("connect"))
            }
        });
    });
}

/// Somebody listens on in its place, and another process that listens elsewhere has its id now.
fn the_id_of_a_listener_that_ended_is_anothers(hook: Hook) {
    in_netns(|_| {
        let trace = Trace::start(hook, &[]);
        let (mut server, mut client) = (Agent::named("server"), Agent::named("client"));
        server.run(
            "
import signal
told, tell = os.pipe()
gone = os.fork()
if gone == 0:
    rename('gone')
    l = socket.create_server(('127.0.0.1', 8080))
    if os.fork() == 0:
        s = l.accept()[0]
        s.recv(1)
        s.close()
    os._exit(0)
os.waitpid(gone, 0)

def born_as(pid):
    for _ in range(10000):
        with open('/proc/sys/kernel/ns_last_pid', 'w') as last:
            last.write(str(pid - 1))
        child = os.fork()
        if child == 0 and os.getpid() == pid:
            rename('other')
            m = socket.create_server(('127.0.0.1', 8081))
            os.write(tell, b'1')
            signal.pause()
        if child == 0:
            os._exit(0)
        if child == pid:
            return child
        os.waitpid(child, 0)
    return None

other = born_as(gone)
",
        );
        assert_eq!(server.give("other == gone"), true, "no process got the id");
        server.run("os.read(told, 1)");
        client.run(CONNECT);
        client.run(CLOSE);
        trace.until_events(2 + CONNECTION);
        server.run("os.kill(other, signal.SIGKILL); os.waitpid(other, 0)");
        let events = trace.finish().events;
        let before: Vec<_> = events.iter().filter(|event| is_before_accept(event)).collect();
        assert_eq!(before.len(), 2, "{events:?}");
        assert!(before.iter().all(|event| event.owner.is_none()), "{before:?}");
    });
}

/// A listener has no peer, and so is none that was asked for; its connections are.
fn another_listens_whatever_the_filter(hook: Hook) {
    in_netns(|_| {
        let (mut old, mut new, mut client) = (Agent::named("old"), Agent::named("new"), Agent::named("client"));
        old.run(LISTEN);
        let trace = Trace::start(hook, &["--remote", "127.0.0.0/8"]);
        old.run("l.close()");
        new.run(LISTEN);
        client.run(CONNECT);
        new.run(ACCEPT);
        client.run(CLOSE);
        new.run(CLOSE_TOO);
        trace.until_events(CONNECTION);
        assert_owners(&trace.finish().events, |event| {
            if is_before_accept(event) {
                Some(new.owner("listen"))
            } else if is_servers(event) {
                Some(new.owner("accept"))
            } else {
                Some(client.owner("connect"))
            }
        });
    });
}

fn two_processes_listen_on_one_port(hook: Hook) {
    const CONNECTIONS: usize = 8;
    const LISTEN_TOO: &str = "l = socket.create_server(('127.0.0.1', 8080), reuse_port=True)";
    const ACCEPT_ALL: &str = "
l.setblocking(False)
s = []
try:
    while True:
        s.append(l.accept()[0])
except BlockingIOError:
    pass
p = [a.getpeername()[1] for a in s]
";
    in_netns(|_| {
        let trace = Trace::start(hook, &[]);
        let mut servers = [Agent::named("one"), Agent::named("other")];
        let mut client = Agent::named("client");
        for server in &mut servers {
            server.run(LISTEN_TOO);
        }
        client.run(&format!(
            "c = [socket.create_connection(('127.0.0.1', 8080)) for _ in range({CONNECTIONS})]"
        ));
        trace.until_events(2 + 4 * CONNECTIONS);
        let accepted = servers.each_mut().map(|server| {
            server.run(ACCEPT_ALL);
            server.give("p")
        });
        client.run("[a.close() for a in c]");
        for server in &mut servers {
            server.run("[a.settimeout(20) or a.recv(1) or a.close() for a in s]");
        }
        trace.until_events(2 + CONNECTIONS * CONNECTION);
        let acceptor = |event: &Event| {
            let has = |ports: &Value| {
                ports
                    .as_array()
                    .expect("a list")
                    .iter()
                    .any(|port| port.as_u64() == event.rport)
            };
            let which = accepted.iter().position(has).expect("somebody accepted it");
            Some(servers[which].owner("accept"))
        };
        assert_owners(&trace.finish().events, |event| {
            if is_before_accept(event) {
                None
            } else if is_listeners(event) {
                let [one, other] = servers.each_ref().map(|server| Some(server.owner("listen")));
                if event.owner == one { one } else { other }
            } else if is_servers(event) {
                acceptor(event)
            } else {
                Some(client.owner("connect"))
            }
        });
    });
}
