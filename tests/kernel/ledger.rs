//! The ledger equals, cell by cell, bpftrace's count of the same tracepoint, whatever the sockets do.

use crate::support::cells::Cells;
use crate::support::clock::try_eventually;
use crate::support::netns::{Netns, in_netns};
use crate::support::peers::bpftrace::Observer;
use crate::support::program::Hook;
use crate::support::program::stat::{Stat, sum, total};
use crate::support::spoiled::done_again;
use crate::support::{heavy, loudly, workload};

/// bpftrace and a `stat` on either hook, side by side in one namespace.
struct Watchers {
    observer: Observer,
    stats: Vec<Watcher>,
    /// What bpftrace had counted when the last workload was over.
    truth: Cells,
    skipped: i64,
}

struct Watcher {
    hook: Hook,
    stat: Stat,
    cells: Cells,
    skipped: i64,
}

/// What bpftrace saw of one workload.
struct Seen {
    cells: Cells,
    skipped: i64,
}

impl Watcher {
    /// Waits until this `stat` has counted as much since the last time as bpftrace, which missed `skipped`, has.
    fn compare(&mut self, truth: &Cells, skipped: i64) -> Result<(), String> {
        let name = self.hook.name();
        let reached = try_eventually(|| {
            let seen = self.stat.cells().since(&self.cells);
            let pardon = skipped + self.stat.missed() - self.skipped;
            if pardon > 0 && seen.distance(truth) <= pardon {
                loudly(&format!(
                    "{name}: the kernel skipped {pardon} runs: {:?}",
                    seen.equals(truth)
                ));
                return Ok(());
            }
            seen.equals(truth)
        });
        self.cells = self.stat.cells();
        self.skipped = self.stat.missed();
        reached.map_err(|how| format!("{name} against bpftrace: {how}"))
    }
}

impl Watchers {
    fn start(netns: &Netns) -> Self {
        let observer = Observer::start(netns);
        let skipped = observer.missed();
        let watcher = |hook| {
            let stat = Stat::every("0.1", hook, &[]);
            Watcher {
                hook,
                skipped: stat.missed(),
                stat,
                cells: Cells::default(),
            }
        };
        Self {
            observer,
            stats: Hook::BOTH.map(watcher).into(),
            truth: Cells::default(),
            skipped,
        }
    }

    /// Runs `work` and compares what it caused, to bpftrace's eyes. Runs of a program that the kernel says it skipped may
    /// be missing in that program's count, and no more than those.
    fn compare(&mut self, work: impl FnOnce()) -> Result<Seen, String> {
        work();
        let now = self.observer.final_cells();
        let cells = now.since(&self.truth);
        let missed = self.observer.missed();
        let skipped = missed - self.skipped;
        let mut verdict = Ok(());
        for watcher in &mut self.stats {
            verdict = verdict.and(watcher.compare(&cells, skipped));
        }
        (self.truth, self.skipped) = (now, missed);
        verdict.map(|()| Seen { cells, skipped })
    }

    /// Ends all; what each row adds up must be its own transitions.
    fn finish(self) {
        for Watcher { hook, stat, .. } in self.stats {
            let ended = stat.finish();
            let cells = total(ended.lines.iter().map(|line| &line.json));
            let name = hook.name();
            assert_eq!(
                sum(&ended, "/events/seen"),
                cells.total(),
                "{name}: seen is what was counted"
            );
            assert_eq!(
                sum(&ended, "/events/lost"),
                0,
                "{name}: without a stream nothing is lost"
            );
            assert_eq!(
                sum(&ended, "/opened/active"),
                cells.get(7, 2),
                "{name}: active is close>syn_sent"
            );
            assert_eq!(
                sum(&ended, "/opened/passive"),
                cells.get(10, 3),
                "{name}: passive is listen>syn_recv"
            );
            assert_eq!(
                sum(&ended, "/closed/total"),
                cells.ends(),
                "{name}: closed is every connection that ended"
            );
            assert_eq!(ended.stderr, "", "{name} has nothing to complain about");
        }
    }
}

#[test]
fn equals_bpftrace_whatever_sockets_do() {
    done_again(|| {
        in_netns(|netns| {
            let mut watchers = Watchers::start(netns);
            let mut wrong = Vec::new();
            for workload in workload::all() {
                let verdict = workload.until_kept(|| {
                    let seen = watchers.compare(|| (workload.run)(netns))?;
                    Ok((seen.cells, seen.skipped))
                });
                wrong.extend(verdict.err().map(|how| format!("{}: {how}", workload.name)));
            }
            watchers.finish();
            assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        });
    });
}

#[test]
fn equals_bpftrace_after_20_000_connections() {
    let _turn = heavy::turn();
    done_again(|| {
        in_netns(|netns| {
            let mut watchers = Watchers::start(netns);
            let mut promised = Cells::default();
            let verdict = watchers.compare(|| promised = workload::bulk::connections(20_000));
            watchers.finish();
            let seen = verdict.expect("equal counts");
            assert_eq!(
                seen.cells.equals_but(&promised, seen.skipped),
                Ok(()),
                "bpftrace against what was made"
            );
        });
    });
}
