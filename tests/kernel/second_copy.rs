//! What the kernel skips in the first copy of the programs, the second copy counts.

use std::thread;

use crate::support::cells::Cells;
use crate::support::heavy;
use crate::support::netns::in_netns;
use crate::support::program::Hook;
use crate::support::program::stat::Stat;
use crate::support::workload::bulk;

/// Connections of each thread.
const CONNECTIONS: i64 = 20_000;

#[test]
fn nothing_is_missed_while_several_threads_connect() {
    let _turn = heavy::turn();
    in_netns(|_| {
        let mut stat = Stat::start(Hook::TpBtf, &[]);
        let before = stat.cells();
        let promised = thread::scope(|scope| {
            let threads = [(); 3].map(|()| scope.spawn(|| bulk::connections(CONNECTIONS)));
            threads.into_iter().fold(Cells::default(), |sum, thread| {
                sum.and(&thread.join().expect("a thread that connects"))
            })
        });
        assert_eq!(stat.reaches(&before, &promised), Ok(()));
        assert_eq!(stat.missed(), 0, "each skipped run was taken over");
        stat.finish();
    });
}
