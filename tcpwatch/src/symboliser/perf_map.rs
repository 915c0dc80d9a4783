//! The map that programs which make code while they run may write of it (`/tmp/perf-PID.map`, as perf(1) reads it).

use std::fs::File;
use std::io::{Read, Seek};

use super::functions::short;
use super::wire::Frame;
use crate::input::stacks::Unnamed;

/// Bytes of a map that are read at most: those of large programs have some 10 MB.
const MAP_MAX: u64 = 64 << 20;

/// A perf map: the addresses and the names of functions.
pub(super) struct PerfMap {
    text: Vec<u8>,
    functions: Vec<Function>,
}

/// A line of the map.
struct Function {
    start: u64,
    size: u64,
    /// Where its name is in the text.
    name: (u32, u32),
}

impl PerfMap {
    /// Reads `file`.
    ///
    /// # Errors
    /// It cannot be read, or is longer than [`MAP_MAX`].
    pub(super) fn read(mut file: File) -> Result<Self, Unnamed> {
        let mut text = Vec::new();
        // A symboliser that ended may have read a part of it.
        file.rewind().map_err(|_| Unnamed::Unreadable)?;
        file.take(MAP_MAX + 1)
            .read_to_end(&mut text)
            .map_err(|_| Unnamed::Unreadable)?;
        if text.len() as u64 > MAP_MAX {
            return Err(Unnamed::TooLarge);
        }
        Ok(Self::parse(text))
    }

    pub(super) fn parse(text: Vec<u8>) -> Self {
        let mut functions = Vec::new();
        let mut at = 0;
        for line in text.split(|&byte| byte == b'\n') {
            functions.extend(Function::parse(line, at));
            at += line.len() + 1;
        }
        Self { text, functions }
    }

    /// The function at each of `addresses`. Where the map has several for an address, the last one counts.
    pub(super) fn functions(&self, addresses: &[u64]) -> Vec<Vec<Frame>> {
        let name = |&address: &u64| {
            let found = self.functions.iter().rev().find(|function| function.has(address));
            found.map(|function| {
                let (start, end) = function.name;
                let name = &self.text[start as usize..end as usize];
                short(String::from_utf8_lossy(name))
            })
        };
        let frame = |address| {
            vec![Frame {
                function: name(address),
                ..Frame::default()
            }]
        };
        addresses.iter().map(frame).collect()
    }
}

impl Function {
    /// Reads `START SIZE NAME`, the line that begins at byte `at`.
    fn parse(line: &[u8], at: usize) -> Option<Self> {
        let hex = |word: &[u8]| {
            let word = std::str::from_utf8(word).ok()?;
            u64::from_str_radix(word.trim_start_matches("0x"), 16).ok()
        };
        let mut words = line.splitn(3, |&byte| byte == b' ');
        let (start, size, name) = (hex(words.next()?)?, hex(words.next()?)?, words.next()?);
        let end = at + line.len();
        Some(Self {
            start,
            size,
            name: (u32::try_from(end - name.len()).ok()?, u32::try_from(end).ok()?),
        })
    }

    fn has(&self, address: u64) -> bool {
        address.checked_sub(self.start).is_some_and(|offset| offset < self.size)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn functions_by_address_the_newest_first() {
        let map = PerfMap::parse(b"1000 10 old one\nrubbish\n1010 8 next\n0x1008 8 new one\nz 1 x\n".to_vec());
        for (address, name) in [
            (0xfff, None),
            (0x1000, Some("old one")),
            (0x1008, Some("new one")),
            (0x100f, Some("new one")),
            (0x1010, Some("next")),
            (0x1018, None),
        ] {
            let found = map.functions(&[address]);
            assert_eq!(found[0][0].function.as_deref(), name, "{address:x}");
        }
    }

    #[test]
    fn a_map_that_is_too_long_is_not_read_in_part() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"1000 10 f\n").unwrap();
        file.set_len(MAP_MAX + 1).unwrap();
        assert_eq!(PerfMap::read(file).err(), Some(Unnamed::TooLarge));
    }
}
