//! Every BPF program stays far from what the verifier allows, on each kernel: kernels differ much in how they count.

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tcpwatch::source::ebpf::verifier_stats;

use crate::support::output::output;
use crate::support::spoiled::this_test;

/// A quarter of the 1,000,000 that the kernel allows.
const INSTRUCTIONS: u64 = 250_000;
/// Of the 512 bytes that the kernel allows to a chain of calls. All functions of a program together are no less than any chain.
const STACK: u64 = 400;

/// Names the file into which this process is to write the statistics; its parent is the same program.
const WRITE_TO: &str = "TCPWATCH_TEST_VERIFIER_STATS";
/// Names a file that gets the statistics too, for `cargo xtask kernels`.
const KEEP_IN: &str = "TCPWATCH_VERIFIER_STATS";

#[test]
fn programs_have_room_to_spare() {
    if let Some(file) = env::var_os(WRITE_TO) {
        return write(Path::new(&file));
    }
    let place = tempfile::tempdir().expect("a temporary directory");
    let file = place.path().join("statistics");
    // By a process of its own, for the statistics are read with no descriptor to spare.
    let mut command = Command::new(env::current_exe().expect("this program"));
    command
        .args(["--exact", &this_test()])
        .env(WRITE_TO, &file)
        .env_remove(KEEP_IN);
    output(&mut command);
    let text = fs::read_to_string(&file).expect("statistics");
    if let Some(kept) = env::var_os(KEEP_IN) {
        fs::write(kept, &text).expect("writing the statistics");
    }
    let programs: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert!(!programs.is_empty(), "no program was loaded");
    let too_large: Vec<&Value> = programs.iter().filter(|program| !has_room(program)).collect();
    assert!(
        too_large.is_empty(),
        "over {INSTRUCTIONS} instructions or {STACK} bytes of stack: {too_large:#?}"
    );
}

fn has_room(program: &Value) -> bool {
    let stack = program["stack"].as_array().expect("a stack");
    let stack: u64 = stack.iter().map(|depth| depth.as_u64().expect("bytes")).sum();
    program["instructions"].as_u64().expect("a number") <= INSTRUCTIONS && stack <= STACK
}

/// Writes the statistics, an object a line.
fn write(file: &Path) {
    let mut text = String::new();
    for program in verifier_stats().expect("the kernel takes every program") {
        let line = json!({
            "name": program.name,
            "instructions": program.instructions,
            "stack": program.stack,
        });
        writeln!(text, "{line}").expect("writing to a text");
    }
    fs::write(file, text).expect("writing the statistics");
}
