//! Recordings: whatever is read is the same when it is written and read again.
//!
//! The input has the files of a recording, each as `NAME LENGTH` in a line before its bytes. The checksums are made here: with those
//! of the input hardly anything would be read.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tcpwatch::input::Input;
use tcpwatch::record::{Header, Recorder, Recording, Table};

use crate::tree::{Tree, with_tree};

/// Inputs that are read at most; few of them are written again.
const INPUTS_MAX: usize = 100_000;
/// Inputs that are written again at most.
const AGAIN_MAX: usize = 64;

pub(crate) fn run(input: &[u8]) {
    with_tree!(|_| {}, |tree| {
        tree.clear();
        write_files(tree, input);
        let (inputs, whole) = read(&tree.path().join("recording"));
        if whole && inputs.len() <= AGAIN_MAX {
            let again = tree.path().join("again");
            write(&again, &inputs);
            assert!(inputs.is_empty() || read(&again) == (inputs, true));
        }
    });
}

/// What is read, and whether that is all.
fn read(dir: &Path) -> (Vec<Input>, bool) {
    let mut inputs = Vec::new();
    let Ok(mut recording) = Recording::open(dir) else {
        return (inputs, false);
    };
    while inputs.len() < INPUTS_MAX {
        match recording.next(&|_| true) {
            Ok(Some(input)) => inputs.push(input),
            Ok(None) => return (inputs, true),
            Err(_) => break,
        }
    }
    (inputs, false)
}

fn write(dir: &Path, inputs: &[Input]) {
    let mut recorder = Recorder::create(dir, &Header::new(Vec::new()), None).expect("a new folder");
    for input in inputs {
        recorder.take(input).expect("there is room");
    }
    recorder.finish(true).expect("there is room");
}

/// Writes the files of `input` to the folder `recording`, the index last: it has the checksums of the others.
fn write_files(tree: &Tree, mut input: &[u8]) {
    let mut index = None;
    while let Some((name, bytes, rest)) = next_file(input) {
        input = rest;
        if name == "index" {
            index = Some(bytes);
        } else {
            tree.write(&format!("recording/{name}.arrows"), bytes);
        }
    }
    if let Some(index) = index {
        let dir = tree.path().join("recording");
        let lines = index.split_inclusive(|&byte| byte == b'\n');
        let lines: Vec<u8> = lines.flat_map(|line| with_checksums(&dir, line)).collect();
        tree.write("recording/index", &lines);
    }
}

/// The name and the bytes of the first file, and what follows.
fn next_file(input: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let end = input.iter().position(|&byte| byte == b'\n')?;
    let (name, length) = std::str::from_utf8(&input[..end]).ok()?.split_once(' ')?;
    let is_name = name.len() <= 32 && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase());
    let rest = &input[end + 1..];
    let (bytes, rest) = rest.split_at(rest.len().min(length.parse().ok()?));
    is_name.then_some((name, bytes, rest))
}

/// A line of an index with its checksum, and with those of the batches that it lists.
fn with_checksums(dir: &Path, line: &[u8]) -> Vec<u8> {
    let (line, end) = line.strip_suffix(b"\n").map_or((line, ""), |line| (line, "\n"));
    let mut json = line.to_vec();
    if let Ok(mut value) = serde_json::from_slice::<Value>(line) {
        let batches = value.get_mut("piece").and_then(|piece| piece.get_mut("batches"));
        let batches = batches.and_then(Value::as_array_mut).into_iter().flatten();
        for batch in batches.filter(|batch| batch.is_object()) {
            if let Some(sum) = checksum(dir, batch) {
                batch["crc"] = sum.into();
            }
        }
        json = value.to_string().into_bytes();
    }
    let sum = format!("{:08x} ", crc32fast::hash(&json));
    [sum.as_bytes(), &json, end.as_bytes()].concat()
}

/// The checksum of the bytes that `batch` names.
fn checksum(dir: &Path, batch: &Value) -> Option<u32> {
    let number = |name: &str| usize::try_from(batch[name].as_u64()?).ok();
    let table: Table = serde_json::from_value(batch["table"].clone()).ok()?;
    let file = fs::read(dir.join(format!("{}.arrows", table.name()))).ok()?;
    let (offset, length) = (number("offset")?, number("length")?);
    Some(crc32fast::hash(file.get(offset..offset.checked_add(length)?)?))
}
