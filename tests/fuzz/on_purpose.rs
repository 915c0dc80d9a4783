//! Targets that fail on purpose, each in another way, to see that this is noticed.

use crate::Target;

/// These targets by name.
pub(crate) const TARGETS: [(&str, Target); 4] = [
    ("finds_nothing", |_| {}),
    ("panics", panics),
    ("hangs", hangs),
    ("takes_memory", takes_memory),
];

#[expect(clippy::panic, reason = "this is what it is for")]
fn panics(_: &[u8]) {
    panic!("on purpose");
}

fn hangs(_: &[u8]) {
    loop {
        std::hint::spin_loop();
    }
}

fn takes_memory(_: &[u8]) {
    std::hint::black_box(vec![0_u8; 1 << 30]);
}
