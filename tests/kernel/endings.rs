//! How each connection ended is told as it was: known numbers of every kind.

use std::net::SocketAddr;
use std::{fs, process};

use crate::support::clock::try_eventually;
use crate::support::endings::{self, Endings, Kind};
use crate::support::netns::{Netns, in_netns};
use crate::support::peers::bpftrace::Observer;
use crate::support::program::trace::Trace;
use crate::support::program::{Hook, on_both_hooks};
use crate::support::sockets::listen;
use crate::support::{LOOPBACK, loudly};

on_both_hooks!(each_kind_is_told_as_what_it_is, a_listener_that_closes_says_so);

/// A trace, and bpftrace, which says whether what it did not tell happened at all.
struct Watchers {
    observer: Observer,
    trace: Trace,
    /// What the trace had told when the last kind was over.
    told: Endings,
}

impl Watchers {
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

    /// How the trace differs, and whether bpftrace saw all ends.
    fn once(&mut self, netns: &Netns, kind: &Kind) -> Result<(), (String, bool)> {
        let before = self.observer.settled();
        kind.run(netns);
        let promised = kind.promised();
        let wanted = self.told.clone().and(&promised);
        let told = try_eventually(|| {
            let told = Endings::among(&self.trace.events());
            if told.total() < wanted.total() {
                Err(told)
            } else {
                Ok(told)
            }
        });
        let told = told.unwrap_or_else(|told| told);
        let since = told.since(&self.told);
        self.told = told;
        if since == promised {
            return Ok(());
        }
        let seen = self.observer.settled().since(&before).ends();
        let how = format!("{}: told {since}instead of {promised}", kind.name);
        Err((how, seen == promised.total()))
    }
}

fn each_kind_is_told_as_what_it_is(hook: Hook) {
    in_netns(|netns| {
        let mut watchers = Watchers {
            observer: Observer::start(netns),
            trace: Trace::start(hook, &[]),
            told: Endings::default(),
        };
        let mut wrong = Vec::new();
        for kind in endings::all() {
            wrong.extend(watchers.compare(netns, &kind).err());
        }
        let ends = Endings::among(&watchers.trace.finish().events);
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
