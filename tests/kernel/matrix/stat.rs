//! `stat`: the ledger equals the workload cell by cell, and TIME_WAIT equals the kernel's counters.

use super::workload;
use crate::support::cells::Cells;
use crate::support::endings::Endings;
use crate::support::netns::in_netns;
use crate::support::peers::snmp;
use crate::support::program::stat::{Stat, sum, total};
use crate::support::program::{Hook, on_both_hooks};
use crate::time_wait::entered;

on_both_hooks!(equals_the_workload);

fn equals_the_workload(hook: Hook) {
    in_netns(|_| {
        let mut stat = Stat::start(hook, &[]);
        let knows_missed = hook.knows_missed();
        let made = workload::run();
        assert_eq!(stat.reaches(&Cells::default(), &made.cells), Ok(()));
        let time_wait = timewait_entries();
        let of_kernel = time_wait.unwrap_or_else(snmp::timewait_population);
        assert_eq!(of_kernel, made.time_wait, "by the kernel's counters");
        let ended = stat.finish();
        let rows = || ended.lines.iter().map(|line| &line.json);
        assert_eq!(total(rows()).equals(&made.cells), Ok(()), "the rows to the end");
        assert_eq!(Endings::counted(rows()), made.endings());
        for (pointer, count) in [
            ("/events/seen", made.cells.total()),
            ("/events/lost", 0),
            ("/opened/active", made.count(|end| end.is_client)),
            ("/opened/passive", made.count(|end| !end.is_client)),
            ("/closed/total", made.cells.ends()),
            ("/time_wait/recycled", 0),
            ("/time_wait/refused", 0),
        ] {
            assert_eq!(sum(&ended, pointer), count, "{pointer}");
        }
        for row in rows() {
            assert!(row["drift"].is_null() || row["drift"] == 0, "{row}");
            let missed = &row["events"]["missed"];
            assert_eq!(missed.as_i64(), knows_missed.then_some(0), "{row}");
        }
        let entered: Option<i64> = rows().map(|row| row["time_wait"]["entered"].as_i64()).sum();
        assert_eq!(entered, time_wait, "unknown where no counter says");
        assert_eq!(ended.stderr, "", "it has nothing to complain about");
    });
}

/// Timewait sockets that were made in this namespace, by the kernel's counters; `None` where they count those that ended.
pub(super) fn timewait_entries() -> Option<i64> {
    // None has ended so far.
    Some(entered()).filter(|entered| *entered > 0)
}
