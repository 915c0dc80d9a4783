//! `/tmp/perf-PID.map`: a function that is found is in the map. The input has an address, then the map.

use tcpwatch::symboliser::fuzzed;

pub(crate) fn run(input: &[u8]) {
    let Some((address, map)) = input.split_first_chunk() else {
        return;
    };
    let text = String::from_utf8_lossy(map);
    if let Some(name) = fuzzed::perf_map_function(map, u64::from_le_bytes(*address)) {
        assert!(text.contains(&name) && !name.contains('\n'));
    }
}
