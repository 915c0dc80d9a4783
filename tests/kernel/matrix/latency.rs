//! `latency`: histograms count what the ledger counts.

use super::workload;
use crate::support::cells::Cells;
use crate::support::netns::in_netns;
use crate::support::program::latency::Latency;
use crate::support::program::stat::Stat;
use crate::support::program::{Hook, on_both_hooks};

on_both_hooks!(equals_the_ledger);

fn equals_the_ledger(hook: Hook) {
    in_netns(|_| {
        let mut stat = Stat::start(hook, &[]);
        let latency = Latency::start(hook, &[]);
        let made = workload::run();
        assert_eq!(stat.reaches(&Cells::default(), &made.cells), Ok(()));
        let measured = latency.finish();
        stat.finish();
        assert_eq!(measured.equals(&made.cells), Ok(()));
        assert_eq!(
            measured.all("handshake_server").counts(),
            (made.count(|end| !end.is_client), 0)
        );
        assert_eq!(measured.all("accept").counts(), (made.count(|end| !end.is_client), 0));
        for kind in ["syn", "syn_ack", "other"] {
            assert_eq!(measured.sent_again(kind), 0, "{kind}");
        }
    });
}
