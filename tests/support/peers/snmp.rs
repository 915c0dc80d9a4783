//! The kernel's own counters of this network namespace.

use std::collections::BTreeMap;
use std::fs;

/// Counters by `Tcp:PassiveOpens`, `TcpExt:TW`.
pub(crate) struct Counters(BTreeMap<String, i64>);

/// Reads them. `thread-self`, since `/proc/net` is the namespace of the main thread.
pub(crate) fn read() -> Counters {
    let mut counters = BTreeMap::new();
    for file in ["/proc/thread-self/net/snmp", "/proc/thread-self/net/netstat"] {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.chunks_exact(2) {
            let (group, names) = pair[0].split_once(':').expect("a group");
            let (_, values) = pair[1].split_once(':').expect("a group");
            for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
                counters.insert(format!("{group}:{name}"), value.parse().expect("a number"));
            }
        }
    }
    Counters(counters)
}

impl Counters {
    /// One counter; 0 where this kernel has none of that name.
    pub(crate) fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

/// Timewait sockets of either substate in this namespace, by sockstat.
pub(crate) fn timewait_population() -> i64 {
    let text = fs::read_to_string("/proc/thread-self/net/sockstat").expect("sockstat");
    let mut words = text
        .lines()
        .find(|line| line.starts_with("TCP:"))
        .expect("TCP")
        .split_whitespace();
    words.find(|&word| word == "tw").expect("tw");
    words.next().expect("a number").parse().expect("a number")
}
