//! `format` files of tracepoints: a layout that is used is one that the record has room for.

use tcpwatch::sys::tracefs::{AuxRecords, classic_layout};
use tcpwatch_common::params::{ABSENT, CLASSIC_RECORD_MAX};

use crate::tree::with_tree;

/// Each tracepoint that is read.
const FILES: [&str; 8] = [
    "sys/kernel/tracing/events/sock/inet_sock_set_state/format",
    "sys/kernel/tracing/events/syscalls/sys_exit_accept4/format",
    "sys/kernel/tracing/events/tcp/tcp_send_reset/format",
    "sys/kernel/tracing/events/tcp/tcp_receive_reset/format",
    "sys/kernel/tracing/events/tcp/tcp_destroy_sock/format",
    "sys/kernel/tracing/events/tcp/tcp_retransmit_skb/format",
    "sys/kernel/tracing/events/tcp/tcp_retransmit_synack/format",
    "sys/kernel/tracing/events/task/task_rename/format",
];

pub(crate) fn run(input: &[u8]) {
    with_tree!(
        |tree| FILES[1..].iter().for_each(|file| tree.link(FILES[0], file)),
        |tree| {
            tree.write(FILES[0], input);
            if let Ok(layout) = classic_layout(tree.path(), None) {
                assert!(layout.skaddr % 8 == 0 && u64::from(layout.skaddr) + 8 <= CLASSIC_RECORD_MAX as u64);
            }
            let records = AuxRecords::read(tree.path(), None, true);
            for tracepoint in ["tcp_send_reset", "tcp_receive_reset"] {
                let _ = records.why_not("tcp", tracepoint);
            }
            let layout = records.layout;
            for offset in [layout.send_skaddr, layout.receive_skaddr, layout.destroy_skaddr] {
                assert!(offset == ABSENT || offset % 8 == 0 && offset + 8 <= 8192, "{offset}");
            }
        }
    );
}
