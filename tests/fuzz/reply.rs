//! What the symboliser answers, who may have been taken over by what it read: it is an answer, or it is none.

use tcpwatch::symboliser::fuzzed;

pub(crate) fn run(input: &[u8]) {
    let _ = fuzzed::is_reply(input);
}
