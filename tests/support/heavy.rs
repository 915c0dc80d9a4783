//! Tests that keep both CPUs busy take turns, whichever processes they run in.

use std::fs::File;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::clock::try_for;

/// How long the tests before this one may take together. It bounds a broken one, it measures nothing.
const PATIENCE: Duration = Duration::from_mins(5);

/// The turn of one test, which ends when this is dropped.
pub(crate) struct Turn(#[expect(dead_code, reason = "closing it ends the lock")] File);

/// Waits for this test's turn. The lock is on the program of the suite itself, which all its processes have.
pub(crate) fn turn() -> Turn {
    let program = File::open("/proc/self/exe").expect("this program");
    let locked = try_for(PATIENCE, || flock(&program, FlockOperation::NonBlockingLockExclusive));
    locked.unwrap_or_else(|error| panic!("waited in vain for a turn: {error}"));
    Turn(program)
}
