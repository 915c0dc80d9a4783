//! From addresses to functions and lines, when somebody asks.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use hashbrown::{HashMap, HashSet};

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Symbolized, Symbolizer};

use super::binary::Binary;
use super::files::File;
use super::perf_map::PerfMap;
use crate::input::stacks::{Address, Stack, StackFrame, Trace};

/// Names of the C library's files: what is in them is on the way from the caller to the kernel.
const C_LIBRARIES: [&str; 5] = ["libc.so", "libc-", "libpthread", "ld-musl", "libc.musl"];
/// The C library's functions on that way, where it is part of the program.
const WRAPPERS: [&str; 14] = [
    "__accept",
    "__accept4",
    "__connect",
    "__internal_syscall_cancel",
    "__libc_accept",
    "__libc_accept4",
    "__libc_connect",
    "__libc_accept64",
    "__syscall_cancel",
    "__syscall_cancel_arch",
    "__syscall_cp",
    "accept",
    "accept4",
    "connect",
];

/// Files whose symbols are kept: more than a program and its libraries have, as a rule.
const FILES_MAX: usize = 64;

/// Looks up symbols, and keeps those of [`FILES_MAX`] files, each open. Before one more, all are forgotten, and are read again where
/// needed.
pub(super) struct Symbols {
    root: PathBuf,
    symbolizer: Symbolizer,
    /// The numbers of the files that were read.
    read: HashSet<u32>,
}

impl Symbols {
    pub(super) fn new(root: PathBuf) -> Self {
        let symbolizer = Symbolizer::builder()
            // A descriptor that is closed may be another file's later.
            .enable_auto_reload(true)
            .enable_code_info(true)
            .enable_inlined_fns(true)
            .enable_demangling(true)
            .build();
        Self {
            root,
            symbolizer,
            read: HashSet::new(),
        }
    }

    /// `trace` as people know it.
    pub(super) fn stack(&mut self, trace: &Trace, files: &HashMap<u32, File>) -> Stack {
        let new = files.keys().filter(|number| !self.read.contains(*number)).count();
        if new > 0 && self.read.len() + new > FILES_MAX {
            *self = Self::new(std::mem::take(&mut self.root));
        }
        self.read.extend(files.keys());
        let mut frames = Vec::new();
        let mut on_the_way = true;
        let mut caller_known = true;
        for (depth, &address) in trace.addresses.iter().enumerate() {
            let found = self.frames(address, files);
            on_the_way = on_the_way && found.iter().all(is_on_the_way);
            if !on_the_way {
                // The system call is made by the C library, as a rule; here it is by what has no name.
                caller_known &= depth > 0 || found.iter().all(|frame| frame.function.is_some());
                frames.extend(found);
            }
        }
        Stack {
            caller_known: caller_known && !frames.is_empty(),
            frames,
            finished: trace.finished,
        }
    }

    /// The function at `address`, after those that are inlined into it there.
    fn frames(&self, address: Address, files: &HashMap<u32, File>) -> Vec<StackFrame> {
        match address {
            Address::File { file, svma } => {
                let file = files.get(&file);
                let unknown = StackFrame {
                    module: file.map(|file| String::from_utf8_lossy(&file.name).into_owned()),
                    address: Some(svma),
                    ..StackFrame::default()
                };
                file.and_then(|file| file.binary.as_ref())
                    .and_then(|binary| self.symbols(binary, svma, &unknown))
                    .unwrap_or_else(|| vec![unknown])
            }
            Address::Anonymous { pid, started, address } => vec![StackFrame {
                function: PerfMap::open(&self.root, pid, started).and_then(|map| map.function(address)),
                address: Some(address),
                ..StackFrame::default()
            }],
        }
    }

    fn symbols(&self, binary: &Binary, svma: u64, unknown: &StackFrame) -> Option<Vec<StackFrame>> {
        // It may have no other path any more.
        let path = format!("/proc/self/fd/{}", binary.file.as_raw_fd());
        let source = Source::Elf(Elf::new(path));
        let found = self.symbolizer.symbolize_single(&source, Input::VirtOffset(svma));
        let symbol = match found {
            Ok(Symbolized::Sym(symbol)) => symbol,
            Ok(Symbolized::Unknown(_)) => return None,
            Err(error) => {
                log::debug!("no symbols: {error}");
                return None;
            }
        };
        // Where the symbols do not tell how far a function goes, what is past its start may be another.
        if symbol.size.is_none() && symbol.code_info.is_none() && symbol.offset != 0 {
            return None;
        }
        let mut frames: Vec<StackFrame> = symbol
            .inlined
            .iter()
            .rev()
            .map(|inlined| StackFrame {
                function: Some(inlined.name.clone().into_owned()),
                address: None,
                ..located(unknown, inlined.code_info.as_ref())
            })
            .collect();
        frames.push(StackFrame {
            function: Some(symbol.name.clone().into_owned()),
            ..located(unknown, symbol.code_info.as_deref())
        });
        Some(frames)
    }
}

/// `frame`, at that place in the source.
fn located(frame: &StackFrame, place: Option<&CodeInfo<'_>>) -> StackFrame {
    StackFrame {
        file: place.map(|place| place.to_path().to_string_lossy().into_owned()),
        line: place.and_then(|place| place.line),
        ..frame.clone()
    }
}

/// Whether it is on the way from whoever called `accept()` or `connect()` to the kernel.
fn is_on_the_way(frame: &StackFrame) -> bool {
    let in_library = frame
        .module
        .as_ref()
        .is_some_and(|module| C_LIBRARIES.iter().any(|library| module.starts_with(library)));
    let is_wrapper = frame
        .function
        .as_ref()
        .is_some_and(|function| WRAPPERS.contains(&function.as_str()));
    in_library || is_wrapper
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::source::stacks::binary::FileKey;
    use crate::source::stacks::files::Files;

    #[test]
    fn files_whose_symbols_are_kept_are_bounded() {
        let place = tempfile::tempdir().unwrap();
        let mut symbols = Symbols::new("/".into());
        let mut files = Files::default();
        let open_files = || {
            let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
            let paths = links.filter_map(|link| fs::read_link(link.path()).ok());
            paths.filter(|path| path.starts_with(place.path())).count()
        };
        let mut most = 0;
        for number in 0..3 * FILES_MAX {
            let path = place.path().join(number.to_string());
            fs::copy("/bin/true", &path).unwrap();
            let key = FileKey::from_stat(&rustix::fs::stat(&path).unwrap());
            let open = || Some(fs::File::open(&path).unwrap().into());
            let file = files.get(key, b"true", open).unwrap().number;
            let trace = Trace {
                addresses: vec![Address::File { file, svma: 0x1000 }],
                finished: Ok(()),
            };
            symbols.stack(&trace, &files.files_in(&trace));
            // What is open now is the symbolizer's alone.
            files = Files::from_next(file + 1);
            most = most.max(open_files());
        }
        assert_eq!((most, symbols.read.len()), (FILES_MAX, FILES_MAX));
    }
}
