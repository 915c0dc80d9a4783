//! `tc`, from iproute2: queues before an interface.

use serde_json::Value;

use super::run;

/// Puts a slow line with room for little more than a segment of loopback's behind the interface `lo` of this namespace.
pub(crate) fn narrow_loopback() {
    let queue = "qdisc add dev lo root tbf rate 16mbit burst 70kb limit 70kb";
    run("tc", &queue.split(' ').collect::<Vec<_>>());
}

/// Packets that the queue of the interface `lo` refused.
pub(crate) fn refused() -> u64 {
    let text = run("tc", &["-json", "-s", "qdisc", "show", "dev", "lo"]);
    let queues: Value = serde_json::from_str(&text).expect("tc prints JSON");
    queues[0]["drops"].as_u64().expect("a count of drops")
}
