//! `churn`: this process opened and refused what the workload says, and left so many timewait sockets.

use std::process;

use serde_json::Value;

use super::stat::timewait_entries;
use super::trace::comm;
use super::workload;
use crate::support::netns::in_netns;
use crate::support::program::churn::{Churn, Sums, number, of_process, sum};
use crate::support::program::{Hook, on_both_hooks};

on_both_hooks!(equals_the_workload);

fn equals_the_workload(hook: Hook) {
    in_netns(|_| {
        let mut churn = Churn::start(hook, "0.5");
        let made = workload::run();
        churn.fresh();
        let (rows, _) = churn.finish_with_findings();
        let ours = Sums {
            opened: made.count(|end| end.is_client && end.was_open()),
            failed: made.count(|end| !end.was_open()),
            time_wait: made.count(|end| end.is_client && end.has_time_wait()),
        };
        assert_eq!(Sums::of(of_process(&rows, process::id())), ours, "{rows:?}");
        for owner in of_process(&rows, process::id()) {
            assert_eq!(owner["owner"]["comm"], comm(), "{owner}");
        }
        let peers = |key: &str| -> i64 {
            let peers = rows.iter().flat_map(|row| row["peers"].as_array().expect("peers"));
            peers.map(|peer: &Value| number(peer, key)).sum()
        };
        assert_eq!(
            peers("time_wait"),
            made.count(|end| !end.is_client && end.has_time_wait()),
            "{rows:?}"
        );
        for pointer in ["/failed/refused", "/failed/total"] {
            assert_eq!(sum(&rows, pointer), ours.failed, "{pointer}");
        }
        let entered: Option<i64> = rows.iter().map(|row| row["time_wait"]["entered"].as_i64()).sum();
        assert_eq!(
            entered,
            timewait_entries().map(|_| made.time_wait),
            "unknown where no counter says"
        );
    });
}
