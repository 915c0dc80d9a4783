//! Entry points for the fuzz targets in `tests/fuzz`: each gives bytes to one reader of this room.

use std::fs::File;
use std::io::Write;
use std::rc::Rc;

use super::functions::Functions;
use super::perf_map::PerfMap;
use super::unwinding::Program;
use super::walk::walk;
use super::wire::{Copied, Reply, Walked};
use crate::input::stacks::Why;

/// Unwinds a stack of a process that has 1 MiB of the program `file` mapped at 0x400000.
///
/// # Panics
/// There is no room for a file.
#[must_use]
pub fn unwind(file: &[u8], registers: &[u64], stack: &[u8]) -> Walked {
    const MAPPED: std::ops::Range<u64> = 0x0040_0000..0x0050_0000;
    let program = Program::read(written(file)).map(Rc::new);
    let copied = Copied {
        process: 1,
        registers: registers.to_vec(),
        stack: stack.to_vec(),
    };
    walk(&copied, &mut |address| {
        let program = program.as_ref().map_err(|why| *why)?;
        if !MAPPED.contains(&address) {
            return Err(Why::Undecided);
        }
        let bias = program.bias(MAPPED.start, 0).ok_or(Why::Undecided)?;
        Ok((1, Rc::clone(program), bias))
    })
}

/// The names of the functions at `addresses` of the program `file`.
///
/// # Panics
/// There is no room for a file.
#[must_use]
pub fn functions(file: &[u8], addresses: &[u64]) -> Vec<String> {
    let Ok(functions) = Functions::read(written(file), &mut |_| None) else {
        return Vec::new();
    };
    let frames = addresses.iter().flat_map(|&address| functions.at(address));
    frames.filter_map(|frame| frame.function).collect()
}

/// The function at `address` by the perf map `map`.
#[must_use]
pub fn perf_map_function(map: &[u8], address: u64) -> Option<String> {
    let functions = PerfMap::parse(map.to_vec()).functions(&[address]);
    functions.into_iter().flatten().find_map(|frame| frame.function)
}

/// Whether `bytes` are an answer of the symboliser.
#[must_use]
pub fn is_reply(bytes: &[u8]) -> bool {
    postcard::from_bytes::<Reply>(bytes).is_ok()
}

#[expect(clippy::expect_used, reason = "without a file there is nothing to read")]
fn written(content: &[u8]) -> File {
    let file = rustix::fs::memfd_create("fuzzed", rustix::fs::MemfdFlags::CLOEXEC).expect("a file in memory");
    let mut file = File::from(file);
    file.write_all(content).expect("room");
    file
}
