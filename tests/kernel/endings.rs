//! How each connection ended is told as it was: known numbers of every kind.

use std::net::SocketAddr;
use std::{fs, process};

use crate::support::agent::Agent;
use crate::support::clock::{eventually, try_eventually};
use crate::support::endings::{self, Endings, Kind};
use crate::support::netns::{Netns, in_netns};
use crate::support::peers::bpftrace::Observer;
use crate::support::program::stat::Stat;
use crate::support::program::trace::Trace;
use crate::support::program::{Hook, on_both_hooks};
use crate::support::sockets::listen;
use crate::support::unreasoned::take_reasons_away;
use crate::support::{LOOPBACK, loudly};

on_both_hooks!(
    each_kind_is_told_as_what_it_is,
    without_reasons_nothing_is_guessed,
    a_listener_that_closes_says_so,
    stat_counts_the_same,
    a_reset_before_the_opening_says_nothing_of_the_end,
);

/// What tells how connections ended.
trait Teller {
    /// The ends that it has told so far, as of a moment after this call.
    fn counted(&mut self) -> Endings;

    /// `kind`'s ends as it should tell them.
    fn promised(kind: &Kind) -> Endings;
}

impl Teller for Trace {
    fn counted(&mut self) -> Endings {
        Endings::among(&self.events())
    }

    fn promised(kind: &Kind) -> Endings {
        kind.promised()
    }
}

impl Teller for Stat {
    fn counted(&mut self) -> Endings {
        self.fresh();
        let lines = self.running().lines();
        lines.with(|lines| Endings::counted(lines.iter().map(|line| &line.json)))
    }

    fn promised(kind: &Kind) -> Endings {
        kind.promised().by_either()
    }
}

/// A trace on a kernel that says of no reset why it was sent.
struct Unreasoned(Trace);

impl Teller for Unreasoned {
    fn counted(&mut self) -> Endings {
        self.0.counted()
    }

    fn promised(kind: &Kind) -> Endings {
        kind.promised().without_reasons()
    }
}

/// One that tells, and bpftrace, which says whether what it did not tell happened at all.
struct Watchers<T> {
    observer: Observer,
    teller: T,
    /// What it had told when the last kind was over.
    told: Endings,
    /// Ends that bpftrace did not see.
    unseen: i64,
}

impl<T: Teller> Watchers<T> {
    fn start(netns: &Netns, start: impl FnOnce() -> T) -> Self {
        Self {
            observer: Observer::start(netns),
            teller: start(),
            told: Endings::default(),
            unseen: 0,
        }
    }

    /// Lets `kind` happen and compares; where bpftrace saw fewer ends too, as [`Workload::until_kept`] tells of, again.
    ///
    /// [`Workload::until_kept`]: crate::support::workload::Workload::until_kept
    fn compare(&mut self, netns: &Netns, kind: &Kind) -> Result<(), String> {
        for _ in 0..2 {
            let how = self.once(netns, kind);
            match how {
                Err((how, false)) => loudly(&format!("to be done again, for bpftrace saw fewer ends: {how}")),
                how => return how.map_err(|(how, _)| how),
            }
        }
        self.once(netns, kind).map_err(|(how, _)| how)
    }

    /// How what is told differs, and whether bpftrace saw all ends.
    fn once(&mut self, netns: &Netns, kind: &Kind) -> Result<(), (String, bool)> {
        let before = self.observer.final_cells();
        kind.run(netns);
        let promised = T::promised(kind);
        let wanted = self.told.clone().and(&promised);
        // Where they do not come, what there is says so.
        drop(try_eventually(|| {
            let told = self.teller.counted();
            if told.total() < wanted.total() {
                Err(told)
            } else {
                Ok(())
            }
        }));
        // An end that is counted may be put right a moment later.
        let told = self.teller.counted();
        let since = told.since(&self.told);
        self.told = told;
        if since == promised {
            return Ok(());
        }
        let seen = self.observer.final_cells().since(&before).ends();
        self.unseen += promised.total() - seen;
        let how = format!("{}: told {since}instead of {promised}", kind.name);
        Err((how, seen == promised.total()))
    }

    /// Every kind; how those differ that do.
    fn compare_all(&mut self, netns: &Netns) -> Vec<String> {
        let kinds = endings::all();
        kinds
            .iter()
            .filter_map(|kind| self.compare(netns, kind).err())
            .collect()
    }
}

fn each_kind_is_told_as_what_it_is(hook: Hook) {
    in_netns(|netns| {
        let mut watchers = Watchers::start(netns, || Trace::start(hook, &[]));
        let wrong = watchers.compare_all(netns);
        let ends = Endings::among(&watchers.teller.finish().events);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!(ends, watchers.told, "no end comes late");
    });
}

fn without_reasons_nothing_is_guessed(hook: Hook) {
    in_netns(|netns| {
        let mut watchers = Watchers::start(netns, || {
            take_reasons_away();
            Unreasoned(Trace::start(hook, &[]))
        });
        let wrong = watchers.compare_all(netns);
        let ended = watchers.teller.0.finish();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!(Endings::among(&ended.events), watchers.told, "no end comes late");
        assert_eq!(ended.said, "", "all that is asked of such a kernel is there");
    });
}

fn stat_counts_the_same(hook: Hook) {
    in_netns(|netns| {
        let mut watchers = Watchers::start(netns, || Stat::every("0.1", hook, &[]));
        let closed = watchers.teller.last()["closed"].clone();
        assert!(closed["refused"].is_i64(), "one number an ending: {closed}");
        let wrong = watchers.compare_all(netns);
        let rows = watchers.teller.finish_beside(watchers.unseen).lines;
        let ends = Endings::counted(rows.iter().map(|line| &line.json));
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!(ends, watchers.told, "no end comes late");
    });
}

fn a_listener_that_closes_says_so(hook: Hook) {
    in_netns(|_| {
        let trace = Trace::start(hook, &[]);
        drop(listen(SocketAddr::new(LOOPBACK, 0), 8));
        let events = trace.until_events(2);
        assert_eq!((events[1].from, events[1].to), (10, 7), "{events:?}");
        assert_eq!(events[1].ended.as_deref(), Some("listener_closed"));
        let owner = events[1].owner.as_ref().expect("who called listen()");
        let comm = fs::read_to_string("/proc/self/comm").expect("this process's name");
        assert_eq!(owner.pid, Some(process::id().into()), "{owner:?}");
        assert_eq!((owner.comm.as_str(), owner.how.as_str()), (comm.trim_end(), "listen"));
        trace.finish();
    });
}

/// The peer has a connection of these ends still, that this side knows nothing of: it answers the SYN with an ACK, that with a
/// reset (RFC 9293, section 3.5.1), and the SYN that is sent again opens the connection.
fn a_reset_before_the_opening_says_nothing_of_the_end(hook: Hook) {
    const CONNECT: &str = "
c = socket.socket()
c.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
c.bind(('127.0.0.1', 40000))
c.connect(('127.0.0.1', 8080))
";
    in_netns(|_| {
        let trace = Trace::start(hook, &[]);
        let (mut server, mut client) = (Agent::named("server"), Agent::named("client"));
        server.run("l = socket.create_server(('127.0.0.1', 8080))");
        client.run(CONNECT);
        server.run("old = l.accept()[0]");
        // TCP_REPAIR: closed without a word.
        client.run("c.setsockopt(socket.IPPROTO_TCP, 19, 1); c.close()");
        client.run(CONNECT);
        client.run("c.close()");
        server.run("s = l.accept()[0]; s.recv(1)");
        let ended = eventually("the client's end", || {
            let events = trace.events();
            let end = events.iter().find(|event| (event.from, event.to) == (5, 7));
            end.map(|end| (end.lport, end.ended.clone())).ok_or("none")
        });
        assert_eq!(ended, (Some(40_000), Some("closed_first".to_owned())));
        server.run("s.close()");
        let events = trace.finish().events;
        let reset = events
            .iter()
            .filter(|event| event.ended.as_deref() == Some("reset_by_peer"));
        assert_eq!(reset.count(), 1, "the old one, by the client: {events:?}");
    });
}
