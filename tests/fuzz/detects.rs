//! Targets that fail on purpose are noticed: otherwise a run that finds nothing would mean nothing.

#![expect(clippy::unwrap_used, reason = "a test fails where something cannot be done")]

use std::fs;
use std::process::Command;

/// Whether the target passed, and the kinds of the inputs that were kept because it failed on them.
fn run(target: &str) -> (bool, Vec<String>) {
    let found = tempfile::tempdir().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_fuzz"))
        .arg("-runs=2")
        .arg("-timeout=2")
        .arg(format!("-artifact_prefix={}/", found.path().display()))
        .env("FUZZ_TARGET", target)
        // To print one may take longer than the limit.
        .env("RUST_BACKTRACE", "0")
        .status()
        .unwrap();
    let names = fs::read_dir(found.path()).unwrap();
    let names = names.map(|name| name.unwrap().file_name().into_string().unwrap());
    let kinds = names.filter_map(|name| Some(name.split_once('-')?.0.to_owned()));
    (status.success(), kinds.collect())
}

#[test]
fn a_target_that_finds_nothing_passes() {
    assert_eq!(run("finds_nothing"), (true, vec![]));
}

#[test]
fn a_panic_is_found() {
    assert_eq!(run("panics"), (false, vec!["crash".to_owned()]));
}

#[test]
fn a_hang_is_found() {
    assert_eq!(run("hangs"), (false, vec!["timeout".to_owned()]));
}

#[test]
fn too_much_memory_is_found() {
    assert_eq!(run("takes_memory"), (false, vec!["crash".to_owned()]));
}

#[test]
fn an_unknown_target_is_refused() {
    assert_eq!(run("no such target"), (false, vec![]));
}
