//! /proc/net/tcp and tcp6: what is counted is what is found.

use tcpwatch::source::procnet::ProcNet;
use tcpwatch_common::StateSet;

use crate::tree::{parts, with_tree};

/// The files.
const FILES: [&str; 2] = ["proc/thread-self/net/tcp", "proc/thread-self/net/tcp6"];

pub(crate) fn run(input: &[u8]) {
    with_tree!(|_| {}, |tree| {
        let mut contents = parts(input, FILES.len());
        for name in FILES {
            tree.write(name, contents.next().unwrap_or_default());
        }
        let mut tables = ProcNet::open(tree.path(), 7).expect("both files are there");
        let mut found = 0;
        let walked = tables.walk(StateSet::ALL, |socket| {
            found += 1;
            assert_eq!(socket.netns, 7);
            assert!(
                socket.local.to_string().len() <= 45,
                "the longest address has 45 letters"
            );
        });
        let lines = input.split(|&byte| byte == b'\n').count() as u64;
        assert!(found <= lines + 1, "{found} sockets in {lines} lines");
        match (walked, tables.count(StateSet::ALL)) {
            (Ok(()), Ok(pass)) => {
                let counted: u64 = [pass.full, pass.request, pass.timewait].iter().flatten().sum();
                assert_eq!(counted, found);
            }
            (walked, counted) => assert!(walked.is_err() && counted.is_err()),
        }
    });
}
