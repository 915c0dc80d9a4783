//! `/tmp/perf-PID.map`: a function that is found is in the map. The input has an address, then the map.

use tcpwatch::source::stacks::fuzzed;

use crate::tree::{Tree, with_tree};
use crate::unwind::make_process;

pub(crate) fn run(input: &[u8]) {
    let Some((address, map)) = input.split_first_chunk() else {
        return;
    };
    let text = String::from_utf8_lossy(map);
    with_tree!(|tree: &Tree| make_process(tree), |tree| {
        tree.write("proc/1/root/tmp/perf-1.map", map);
        if let Some(name) = fuzzed::perf_map_function(tree.path(), 1, 0, u64::from_le_bytes(*address)) {
            assert!(text.contains(&name) && !name.contains('\n'));
        }
    });
}
