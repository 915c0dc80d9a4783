//! Columns of the ledger, of the kernel's counters and of listeners.

use std::num::{NonZeroU32, NonZeroU64};

use tcpwatch_common::Evidence;
use tcpwatch_common::ledger::{Pass, STATES};

use super::columns::{column_as, column_names, column_struct};
use crate::input::counter::{Counter, CounterValues};
use crate::input::listener::Listener;
use crate::input::namespace::{Namespace, Scope};
use crate::input::owner::Owner;
use crate::input::reset_reasons::{Reason, Reasons};
use crate::input::socket::Address;
use crate::input::{
    EndCounts, FullestNamespace, HostFacts, LedgerSample, Loss, Orphans, Session, SynSettings, TimeWaitCounters,
};

column_names!(Reason: Reason::ALL, Reason::name);
column_as!(
    Reasons as Vec<(u8, Reason)>,
    |reasons| reasons.numbered().to_vec(),
    |numbered| Ok(numbered.into())
);
column_struct!(Session {
    monotonic_ns: u64,
    reasons: Reasons,
    missed_resets: Option<u64>,
    knows_namespaces: bool,
    watches: bool,
});

column_struct!(Loss { lost: u64, missed_resets: Option<u64>, unknown_owners: u64, emptied: bool });
column_struct!(EndCounts { moves: [[u64; STATES]; STATES], lost: u64, missed: Option<u64>, dropped: u64, unmatched: u64 });
column_struct!(LedgerSample {
    moves: [[u64; STATES]; STATES],
    sockets: [i64; STATES],
    ends: Vec<(Evidence, i64)>,
    uncounted_ends: u64,
    lost: u64,
    missed: Option<u64>,
    missed_resets: Option<u64>,
    unmarked: u64,
    drift: Option<u64>,
});
column_struct!(Pass {
    full: [u64; STATES],
    request: [u64; STATES],
    timewait: [u64; STATES],
    refused: [u64; STATES],
});

column_names!(Counter: Counter::ALL, |counter| counter.name().1);
// By name, so that a version with more counters reads it.
column_as!(
    CounterValues as Vec<(Counter, Option<u64>)>,
    |values| Counter::ALL.map(|counter| (counter, values.get(counter))).to_vec(),
    |named| Ok(CounterValues::read(|counter| named
        .iter()
        .find(|(of, _)| *of == counter)?
        .1))
);

/// A network namespace in columns.
pub(crate) struct NamespaceRow {
    inode: u32,
    scope: ScopeName,
    path: Option<String>,
    first: bool,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum ScopeName {
    Own,
    Other,
    Copied,
}

impl ScopeName {
    const fn key(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Other => "other",
            Self::Copied => "copied",
        }
    }
}

column_names!(ScopeName: [ScopeName::Own, ScopeName::Other, ScopeName::Copied], ScopeName::key);
column_struct!(NamespaceRow { inode: u32, scope: ScopeName, path: Option<String>, first: bool });
column_as!(
    Namespace as NamespaceRow,
    |namespace| {
        let (scope, path) = match &namespace.scope {
            Scope::Own => (ScopeName::Own, None),
            Scope::Other(path) => (ScopeName::Other, path.clone()),
            Scope::Copied => (ScopeName::Copied, None),
        };
        NamespaceRow {
            inode: namespace.inode,
            scope,
            path,
            first: namespace.first,
        }
    },
    |row| Ok(Namespace {
        inode: row.inode,
        scope: match row.scope {
            ScopeName::Own => Scope::Own,
            ScopeName::Other => Scope::Other(row.path),
            ScopeName::Copied => Scope::Copied,
        },
        first: row.first,
    })
);

column_struct!(FullestNamespace {
    netns: u32,
    population: u64,
    limit: u64
});
column_struct!(TimeWaitCounters {
    entered: Option<u64>,
    refused: Option<u64>,
    recycled: Option<u64>,
    left: Option<u64>,
    population: Option<u64>,
    limit: Option<u64>,
    fullest: Option<FullestNamespace>,
});
column_struct!(Orphans { now: Option<u64>, limit: Option<u64>, mem_pages: Option<u64> });
column_struct!(SynSettings { cookies: Option<u64>, max_backlog: Option<u64> });
column_struct!(HostFacts {
    time_wait: TimeWaitCounters,
    counters: CounterValues,
    orphans: Orphans,
    syn: SynSettings,
    namespace: Option<Namespace>,
    walk_age_ns: Option<u64>,
});

column_struct!(Listener {
    cookie: Option<NonZeroU64>,
    inode: Option<NonZeroU32>,
    netns: Option<NonZeroU32>,
    address: Address,
    port: u16,
    queued: u64,
    limit: Option<u64>,
    drops: Option<u64>,
    owner: Option<Owner>,
    sockets: u64,
});
