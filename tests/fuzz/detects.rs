//! Targets that fail on purpose are noticed: otherwise a run that finds nothing would mean nothing.

use std::fs;
use std::process::Command;

/// Whether the target passed, and how many inputs were kept because it failed on them.
fn run(target: &str) -> (bool, usize) {
    let found = tempfile::tempdir().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_fuzz"))
        .arg("-runs=2")
        .arg("-timeout=1")
        .arg(format!("-artifact_prefix={}/", found.path().display()))
        .env("FUZZ_TARGET", target)
        .status()
        .unwrap();
    (status.success(), fs::read_dir(found.path()).unwrap().count())
}

#[test]
fn a_target_that_finds_nothing_passes() {
    assert_eq!(run("finds_nothing"), (true, 0));
}

#[test]
fn a_panic_is_found() {
    assert_eq!(run("panics"), (false, 1));
}

#[test]
fn a_hang_is_found() {
    assert_eq!(run("hangs"), (false, 1));
}

#[test]
fn too_much_memory_is_found() {
    assert_eq!(run("takes_memory"), (false, 1));
}

#[test]
fn an_unknown_target_is_refused() {
    assert_eq!(run("no such target"), (false, 0));
}
