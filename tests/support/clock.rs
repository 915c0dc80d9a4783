//! How tests wait: for a condition, with a deadline. Only where a length of time is what is tested do they let it pass.

use std::fmt::Display;
use std::time::{Duration, Instant, SystemTime};

/// How long a condition may take to come true. It bounds a broken program, it measures nothing.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Time between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "the program's clock.rs is not the tests'")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The clock on the wall, which events are stamped with.
#[expect(clippy::disallowed_methods, reason = "the program's clock.rs is not the tests'")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// Looks at a condition until it holds and gives its value, or what was seen last when patience ended.
pub(crate) fn try_eventually<T, E>(look: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    try_for(PATIENCE, look)
}

/// The same with less patience.
pub(crate) fn try_for<T, E>(patience: Duration, mut look: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let start = now();
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(seen) if start.elapsed() > patience => return Err(seen),
            Err(_) => std::thread::sleep(LOOK_AGAIN),
        }
    }
}

/// As [`try_eventually`], but a condition that never holds fails the test, naming `what` was waited for.
pub(crate) fn eventually<T, E: Display>(what: &str, look: impl FnMut() -> Result<T, E>) -> T {
    match try_eventually(look) {
        Ok(value) => value,
        Err(seen) => panic!("waited in vain for {what}: {seen}"),
    }
}

/// Lets `time` pass, where something must have lasted as long: an age, a time in a state, a rate. It waits for no condition.
pub(crate) fn pass(time: Duration) {
    std::thread::sleep(time);
}

/// Waits until `holds` says so.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || if holds() { Ok(()) } else { Err("not yet") });
}
