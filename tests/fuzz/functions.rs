//! Symbols and debug information of ELF files, packed or not: names are of bounded length. The input has two addresses, then the file.

use tcpwatch::symboliser::fuzzed;

/// Bytes of a name at most.
const NAME_MAX: usize = 4096;

pub(crate) fn run(input: &[u8]) {
    let Some((addresses, file)) = input.split_first_chunk::<16>() else {
        return;
    };
    let addresses: [u64; 2] = bytemuck::pod_read_unaligned(addresses);
    for name in fuzzed::functions(file, &addresses) {
        assert!(name.len() <= NAME_MAX);
    }
}
