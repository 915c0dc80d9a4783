//! Whose each transition is, whoever's context it happens in.

mod confined;
mod listeners;

use std::cell::RefCell;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::{fs, io, process, ptr};

use io_uring::{IoUring, opcode, types};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use serde::Deserialize;
use serde_json::{Value, json};
use socket2::Socket;

use crate::support::agent::Agent;
use crate::support::cgroup::Cgroup;
use crate::support::clock::PATIENCE;
use crate::support::netns::in_netns;
use crate::support::program::event::{Event, Owner};
use crate::support::program::lives::Lives;
use crate::support::program::run::binary;
use crate::support::program::trace::{Probe, Trace, Written, connect_and_close};
use crate::support::program::{Hook, Running, on_both_hooks};
use crate::support::sockets::read_eof;
use crate::support::web::{Nginx, request};
use crate::support::{heavy, loudly, not_run};

on_both_hooks!(
    client_and_server,
    workers_accept_what_their_master_listens_for,
    a_client_that_is_gone_at_once,
    the_cgroup_of_one_that_is_gone,
    the_cgroup_where_none_is_mounted,
    a_name_with_escape_codes,
    a_socket_that_is_handed_over,
    a_connection_from_before_the_start,
    what_io_uring_accepts,
    nginx_and_wrk,
);

/// The server's port in all of these.
const PORT: u64 = 8080;
const LISTEN: &str = "l = socket.create_server(('127.0.0.1', 8080))";
const CONNECT: &str = "c = socket.create_connection(('127.0.0.1', 8080))";
const ACCEPT: &str = "s = l.accept()[0]";
const CLOSE: &str = "c.close()";
/// Waits for the client's FIN.
const CLOSE_TOO: &str = "s.recv(1); s.close()";
/// Starts two processes that accept one connection each, say so to the client, and end with it; their numbers are in `w`.
const TWO_WORKERS: &str = "
w = []
for _ in range(2):
    w.append(os.fork())
    if w[-1] == 0:
        rename('worker')
        s = l.accept()[0]
        s.send(b'x')
        s.recv(1)
        s.close()
        os._exit(0)
";
/// Two connections, each closed once somebody has accepted it.
const CONNECT_TWICE: &str = "
for _ in range(2):
    c = socket.create_connection(('127.0.0.1', 8080))
    c.recv(1)
    c.close()
";

/// Transitions of one connection, closed by either side first.
const CONNECTION: usize = 10;

/// A listener is none of a connection's ends.
fn is_listeners(event: &Event) -> bool {
    (event.from, event.to) == (7, 10) || (event.from, event.to) == (10, 7)
}

/// The server's end of a connection.
fn is_servers(event: &Event) -> bool {
    event.lport == Some(PORT) && !is_listeners(event)
}

/// Of the server's end, before anybody can have accepted it.
fn is_before_accept(event: &Event) -> bool {
    is_servers(event) && (event.from == 10 || event.from == 3)
}

/// Every transition has the owner that `whose` says.
fn assert_owners(events: &[Event], whose: impl Fn(&Event) -> Option<Owner>) {
    let wrong: Vec<String> = events
        .iter()
        .filter(|event| event.owner != whose(event))
        .map(|event| format!("not {:?}: {event:?}", whose(event)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn client_and_server(hook: Hook) {
    in_netns(|_| {
        let trace = Trace::start(hook, &[]);
        let (mut server, mut client) = (Agent::named("server"), Agent::named("client"));
        server.run(LISTEN);
        client.run(CONNECT);
        server.run(ACCEPT);
        client.run(CLOSE);
        server.run(CLOSE_TOO);
        client.run(CONNECT);
        server.run(ACCEPT);
        server.run("s.close()");
        client.run("c.recv(1); c.close()");
        server.run("l.close()");
        trace.until_events(2 + 2 * CONNECTION);
        assert_owners(&trace.finish().events, |event| {
            if !is_servers(event) && !is_listeners(event) {
                Some(client.owner("connect"))
            } else if is_listeners(event) || is_before_accept(event) {
                Some(server.owner("listen"))
            } else {
                Some(server.owner("accept"))
            }
        });
    });
}

/// The connections of `events` were accepted each by another of `workers`, and what came before was `master`'s.
fn assert_workers(events: &[Event], master: &Agent, workers: &[u64]) {
    let accepted: Vec<&Event> = events.iter().filter(|event| (event.from, event.to) == (9, 7)).collect();
    let mut pids: Vec<u64> = accepted.iter().filter_map(|event| event.owner.as_ref()?.pid).collect();
    pids.sort_unstable();
    assert_eq!(pids, workers, "each worker had one connection: {accepted:?}");
    assert_owners(events, |event| {
        if is_before_accept(event) || is_listeners(event) {
            return Some(master.owner("listen"));
        }
        if !is_servers(event) {
            return event
                .owner
                .clone()
                .filter(|owner| owner.how == "connect" && owner.comm == "client");
        }
        // The other transitions of a connection are whose its last is.
        let last = accepted.iter().find(|last| last.id == event.id)?;
        let pid = last.owner.as_ref()?.pid;
        Some(Owner {
            pid,
            comm: "worker".to_owned(),
            how: "accept".to_owned(),
        })
    });
}

/// The numbers of the two workers of `master`, in order.
fn workers(master: &mut Agent) -> Vec<u64> {
    let pids = master.give("w");
    let mut pids: Vec<u64> = pids
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_u64)
        .collect();
    pids.sort_unstable();
    pids
}

fn workers_accept_what_their_master_listens_for(hook: Hook) {
    in_netns(|_| {
        let trace = Trace::start(hook, &[]);
        let (mut master, mut client) = (Agent::named("master"), Agent::named("client"));
        master.run(LISTEN);
        master.run(TWO_WORKERS);
        client.run(CONNECT_TWICE);
        trace.until_events(1 + 2 * CONNECTION);
        let workers = workers(&mut master);
        assert_workers(&trace.finish().events, &master, &workers);
    });
}

fn a_client_that_is_gone_at_once(hook: Hook) {
    in_netns(|_| {
        let trace = Trace::start(hook, &[]);
        let (mut server, mut client) = (Agent::named("server"), Agent::named("client"));
        server.run(LISTEN);
        client.run(
            "
gone = os.fork()
if gone == 0:
    rename('gone')
    c = socket.create_connection(('127.0.0.1', 8080))
    os._exit(0)
os.waitpid(gone, 0)
",
        );
        server.run(ACCEPT);
        server.run(CLOSE_TOO);
        trace.until_events(1 + CONNECTION);
        let gone = Owner {
            pid: client.give("gone").as_u64(),
            comm: "gone".to_owned(),
            how: "connect".to_owned(),
        };
        let events = trace.finish().events;
        assert_owners(&events, |event| {
            if is_listeners(event) || is_before_accept(event) {
                Some(server.owner("listen"))
            } else if !is_servers(event) {
                Some(gone.clone())
            } else if (event.from, event.to) == (1, 8) {
                // The FIN came before the accept().
                Some(server.owner("listen"))
            } else {
                Some(server.owner("accept"))
            }
        });
    });
}

/// A connection of a process that lives for that alone, in the cgroup at `directory`; the process is gone when this returns.
fn connect_from(directory: &Path, server: &mut Agent, client: &mut Agent) {
    server.run(LISTEN);
    client.run(&format!(
        "
gone = os.fork()
if gone == 0:
    with open({}, 'w') as procs:
        procs.write('0')
    c = socket.create_connection(('127.0.0.1', 8080))
    os._exit(0)
os.waitpid(gone, 0)
",
        json!(directory.join("cgroup.procs"))
    ));
    server.run(ACCEPT);
    server.run(CLOSE_TOO);
}

fn the_cgroup_of_one_that_is_gone(hook: Hook) {
    in_netns(|_| {
        let cgroup = Cgroup::new(&format!("gone-{}", hook.name()));
        let (mut server, mut client) = (Agent::named("server"), Agent::named("client"));
        let prober = RefCell::new(Agent::named("prober"));
        cgroup.take(prober.borrow().process());
        let all = Trace::start(hook, &[]);
        let asked = Lives::probed_by(hook, &["--cgroup", &cgroup.path()], || prober.borrow_mut().probe());
        connect_from(&cgroup.directory(), &mut server, &mut client);
        all.until_events(1 + CONNECTION);
        asked.until(1);
        let gone = client.give("gone").as_u64();
        for event in all.finish().events {
            let by_it = event.owner.as_ref().is_some_and(|owner| owner.pid == gone);
            assert_eq!(by_it, !is_servers(&event) && !is_listeners(&event), "{event:?}");
            assert_eq!(event.cgroup.as_deref() == Some(&cgroup.path()), by_it, "{event:?}");
        }
        let asked = asked.finish();
        let [one] = asked.lives.as_slice() else {
            panic!("one connection is of that cgroup: {:#?}", asked.lives);
        };
        assert_eq!(one.0["owner"]["pid"].as_u64(), gone, "{}", one.0);
        assert_eq!(one.text("cgroup"), cgroup.path());
        assert!(asked.number("unmatched") > 0, "the server's end is not: {}", asked.end);
    });
}

fn the_cgroup_where_none_is_mounted(hook: Hook) {
    in_netns(|_| {
        let cgroup = Cgroup::new(&format!("unmounted-{}", hook.name()));
        let (mut server, mut client) = (Agent::named("server"), Agent::named("client"));
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", "umount -a -t cgroup2 && exec \"$0\" \"$@\""])
            .arg(binary())
            .args(["life", "-o", "json", "--hook", hook.name()]);
        let trace = Lives::probing(Running::spawn(&mut command), || connect_and_close(Probe::ANY));
        let mounts = fs::read_to_string(format!("/proc/{}/mounts", trace.running().pid())).expect("its mounts");
        assert!(!mounts.contains("cgroup2"), "{mounts}");
        connect_from(&cgroup.directory(), &mut server, &mut client);
        trace.until(2);
        let gone = client.give("gone").as_u64();
        for life in trace.finish().lives {
            let by_it = life.0["owner"]["pid"].as_u64() == gone;
            assert_eq!(by_it, life.text("opened") == "active", "{}", life.0);
            assert_eq!(life.0["cgroup"] == cgroup.path(), by_it, "{}", life.0);
        }
    });
}

fn a_name_with_escape_codes(hook: Hook) {
    in_netns(|_| {
        let trace = Trace::start(hook, &[]);
        let mut evil = Agent::named("a)\n\u{1b}[2J\u{7}\"\\\u{ff}");
        evil.run(LISTEN);
        evil.run(CONNECT);
        evil.run(ACCEPT);
        evil.run(CLOSE);
        evil.run(CLOSE_TOO);
        trace.until_events(1 + CONNECTION);
        for event in trace.finish().events {
            let owner = event.owner.expect("an owner");
            // The last byte is no UTF-8 by itself.
            assert_eq!(owner.comm, "a)\n\u{1b}[2J\u{7}\"\\\u{fffd}");
            assert_eq!(owner.pid, Some(evil.pid()));
        }
    });
}

/// Who accepted it stays its owner: that is documented, and the receiver is not seen.
fn a_socket_that_is_handed_over(hook: Hook) {
    in_netns(|_| {
        let trace = Trace::start(hook, &[]);
        let place = tempfile::tempdir().expect("a temporary directory");
        let path = json!(place.path().join("socket"));
        let (mut server, mut client) = (Agent::named("server"), Agent::named("client"));
        let mut receiver = Agent::named("receiver");
        server.run(LISTEN);
        server.run(&format!(
            "u = socket.socket(socket.AF_UNIX); u.bind({path}); u.listen()"
        ));
        receiver.run(&format!("u = socket.socket(socket.AF_UNIX); u.connect({path})"));
        client.run(CONNECT);
        server.run(ACCEPT);
        server.run("socket.send_fds(u.accept()[0], [b'x'], [s.fileno()]); s.close()");
        receiver.run("s = socket.socket(fileno=socket.recv_fds(u, 1, 1)[1][0])");
        client.run(CLOSE);
        receiver.run(CLOSE_TOO);
        trace.until_events(1 + CONNECTION);
        assert_owners(&trace.finish().events, |event| {
            if !is_servers(event) && !is_listeners(event) {
                Some(client.owner("connect"))
            } else if is_listeners(event) || is_before_accept(event) {
                Some(server.owner("listen"))
            } else {
                Some(server.owner("accept"))
            }
        });
    });
}

/// Whoever closes says whose it is; before that, /proc does, which was read at the start.
fn a_connection_from_before_the_start(hook: Hook) {
    in_netns(|_| {
        let (mut server, mut client) = (Agent::named("server"), Agent::named("client"));
        server.run(LISTEN);
        client.run(CONNECT);
        server.run(ACCEPT);
        let trace = Trace::start(hook, &[]);
        client.run(CLOSE);
        trace.until_events(3);
        server.run(CLOSE_TOO);
        trace.until_events(6);
        assert_owners(&trace.finish().events, |event| match (event.from, event.to) {
            (1, 8) => Some(server.owner("scan")),
            _ if is_servers(event) => Some(server.owner("close")),
            _ => Some(client.owner("close")),
        });
    });
}

/// Accepting so is not seen. The listener's process must not be taken for the one that accepts: it is another.
fn what_io_uring_accepts(hook: Hook) {
    in_netns(|_| {
        let mut ring = match IoUring::new(2) {
            Ok(ring) => ring,
            Err(error) => return not_run(&format!("this kernel has no io_uring ({error})")),
        };
        let trace = Trace::start(hook, &[]);
        let (mut master, mut client) = (Agent::named("master"), Agent::named("client"));
        master.run(LISTEN);
        let listener = taken_from(&mut master, "l.fileno()");
        client.run(CONNECT);
        let server = accept_by(&mut ring, &listener);
        client.run(CLOSE);
        read_eof(&server);
        drop(server);
        trace.until_events(1 + CONNECTION);
        let ours = process::id().into();
        assert_owners(&trace.finish().events, |event| {
            if !is_servers(event) && !is_listeners(event) {
                Some(client.owner("connect"))
            } else if is_listeners(event) || is_before_accept(event) {
                Some(master.owner("listen"))
            } else {
                event.owner.clone().filter(|owner| owner.pid == Some(ours))
            }
        });
    });
}

/// A descriptor of the socket whose descriptor in `agent` is `fd`.
fn taken_from(agent: &mut Agent, fd: &str) -> OwnedFd {
    let pid = i32::try_from(agent.pid()).ok().and_then(Pid::from_raw).expect("a pid");
    let process = pidfd_open(pid, PidfdFlags::empty()).expect("pidfd_open");
    let fd = agent.give(fd).as_i64().and_then(|fd| i32::try_from(fd).ok());
    pidfd_getfd(process, fd.expect("a descriptor"), PidfdGetfdFlags::empty()).expect("pidfd_getfd")
}

/// Accepts one connection by `ring`.
fn accept_by(ring: &mut IoUring, listener: &OwnedFd) -> Socket {
    let fd = types::Fd(listener.as_raw_fd());
    let accept = opcode::Accept::new(fd, ptr::null_mut(), ptr::null_mut()).build();
    // SAFETY: it points to nothing, and the listener is open until it is done.
    unsafe { ring.submission().push(&accept) }.expect("room for one");
    ring.submit_and_wait(1).expect("io_uring_enter");
    let accepted = ring.completion().next().expect("what was waited for").result();
    assert!(
        accepted >= 0,
        "accept by io_uring: {}",
        io::Error::from_raw_os_error(-accepted)
    );
    // SAFETY: the kernel made this descriptor for us.
    let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(accepted) });
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// As much of a line as says whose it is.
#[derive(Deserialize)]
struct TraceLine<'a> {
    lport: Option<u16>,
    rport: Option<u16>,
    from: &'a str,
    to: &'a str,
    owner: Option<LineOwner<'a>>,
}

#[derive(Deserialize)]
struct LineOwner<'a> {
    pid: Option<u32>,
    comm: &'a str,
    how: &'a str,
}

impl LineOwner<'_> {
    /// Whether it can be the owner of nginx's end of a connection, or of its listener, at `line`.
    fn is_right_of_server(&self, line: &TraceLine, nginx: &Nginx) -> bool {
        // Who has sent a FIN or a reset has been accepted before.
        let has_closed = ["fin_wait1", "fin_wait2", "last_ack", "closing"];
        let accepted = has_closed.contains(&line.from) || has_closed.contains(&line.to);
        let by_master = self.pid == Some(nginx.master()) && self.how == "listen" && !accepted;
        let by_worker =
            self.pid.is_some_and(|pid| nginx.workers.contains(&pid)) && ["accept", "close"].contains(&self.how);
        let is_listeners = (line.from, line.to) == ("close", "listen") || (line.from, line.to) == ("listen", "close");
        self.comm == "nginx" && (by_master || by_worker && !is_listeners)
    }
}

fn nginx_and_wrk(hook: Hook) {
    const CONNECTIONS: u64 = 20_000;
    let _turn = heavy::turn();
    in_netns(|_| {
        let trace = Written::start(hook, &["--ring-size", "64M"]);
        let nginx = Nginx::start();
        let wrk = request(CONNECTIONS);
        let (mut rows, mut nobodys, mut births) = (0, 0, 0);
        let mut wrong = Vec::new();
        let end = trace.finish(|text| {
            let line: TraceLine = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
            let is_server = line.lport == Some(Nginx::PORT);
            if !is_server && line.rport != Some(Nginx::PORT) {
                return;
            }
            rows += 1;
            births += u64::from((line.from, line.to) == ("listen", "syn_recv"));
            let right = match &line.owner {
                None => {
                    nobodys += 1;
                    true
                }
                Some(owner) if is_server => owner.is_right_of_server(&line, &nginx),
                Some(owner) => {
                    let by_wrk = owner.pid.is_some_and(|pid| wrk.contains(&pid));
                    by_wrk && owner.comm == "wrk" && owner.how == "connect"
                }
            };
            if !right {
                wrong.push(text.to_owned());
            }
        });
        loudly(&format!(
            "{}: {rows} rows of {births} connections, {nobodys} without an owner, {} with a wrong one; {end}",
            hook.name(),
            wrong.len()
        ));
        let some = wrong.iter().take(20).map(String::as_str).collect::<Vec<_>>();
        assert!(
            wrong.is_empty(),
            "{} of {rows} rows name a wrong owner; nginx is {} and its workers {:?}, wrk {wrk:?}:\n{}",
            wrong.len(),
            nginx.master(),
            nginx.workers,
            some.join("\n")
        );
        assert!(births >= CONNECTIONS, "each request is a connection: {end}");
        assert!(nobodys * 100 <= rows, "{nobodys} of {rows} rows have no owner: {end}");
    });
}
