//! From addresses to functions and lines, when somebody asks: the symboliser reads them.

use std::os::fd::AsFd;
use std::path::PathBuf;

use hashbrown::HashMap;

use super::files::File;
use super::{debug_file, perf_map};
use crate::input::stacks::{Address, Stack, StackFrame, Trace, Unnamed};
use crate::symboliser::{Frame, MapId, Symboliser};

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
/// Files that are not read again; before one more, all are forgotten, and are tried again.
const REFUSED_MAX: usize = 16_384;

/// Names the functions of stacks.
pub(super) struct Names {
    root: PathBuf,
    symboliser: Symboliser,
    /// The files that ended the symboliser: at most [`REFUSED_MAX`].
    refused: HashMap<Source, Unnamed>,
}

/// What the symboliser reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    /// The symbols of a file, by its number.
    File(u32),
    /// A perf map.
    Map(MapId),
}

/// Where code is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Origin {
    /// A file, by its number.
    File(u32),
    /// Memory of the process with this number, which began at this time.
    Process(u32, u64),
}

/// The functions at addresses, by where the code is from.
type Named = HashMap<Origin, Result<HashMap<u64, Vec<Frame>>, Unnamed>>;

impl Names {
    pub(super) fn new(root: PathBuf, symboliser: Symboliser) -> Self {
        Self {
            root,
            symboliser,
            refused: HashMap::new(),
        }
    }

    /// `trace` as people know it.
    pub(super) fn stack(&mut self, trace: &Trace, files: &HashMap<u32, File>) -> Stack {
        let mut addresses: HashMap<Origin, Vec<u64>> = HashMap::new();
        for &address in &trace.addresses {
            let (origin, address) = origin(address);
            addresses.entry(origin).or_default().push(address);
        }
        let named: Named = addresses
            .into_iter()
            .map(|(origin, addresses)| {
                let functions = match origin {
                    Origin::File(number) => self.of_file(number, files, &addresses),
                    Origin::Process(pid, started) => self.of_process(pid, started, &addresses),
                };
                (
                    origin,
                    functions.map(|functions| addresses.into_iter().zip(functions).collect()),
                )
            })
            .collect();
        let mut frames = Vec::new();
        let mut on_the_way = true;
        let mut caller_known = true;
        for (depth, &address) in trace.addresses.iter().enumerate() {
            let found = frames_at(address, files, &named);
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

    fn of_file(
        &mut self,
        number: u32,
        files: &HashMap<u32, File>,
        addresses: &[u64],
    ) -> Result<Vec<Vec<Frame>>, Unnamed> {
        let file = files.get(&number).and_then(|file| file.open.as_ref());
        let file = file.ok_or(Unnamed::Unreadable)?;
        let root = self.root.clone();
        self.read(Source::File(number), |symboliser| {
            symboliser.functions(number, file.as_fd(), addresses.to_vec(), &|build_id| {
                debug_file::open(&root, build_id)
            })
        })
    }

    fn of_process(&mut self, pid: u32, started: u64, addresses: &[u64]) -> Result<Vec<Vec<Frame>>, Unnamed> {
        match perf_map::open(&self.root, pid, started)? {
            Some((map, file)) => self.read(Source::Map(map), |symboliser| {
                symboliser.mapped(map, file.as_fd(), addresses.to_vec())
            }),
            None => Ok(vec![Vec::new(); addresses.len()]),
        }
    }

    /// Has `what` read, unless that ended the symboliser before.
    fn read<T>(
        &mut self,
        what: Source,
        mut read: impl FnMut(&mut Symboliser) -> Result<T, Unnamed>,
    ) -> Result<T, Unnamed> {
        if let Some(why) = self.refused.get(&what) {
            return Err(*why);
        }
        let is_new = !self.symboliser.is_running();
        let mut found = read(&mut self.symboliser);
        if !is_new && matches!(found, Err(Unnamed::Died | Unnamed::TooSlow)) {
            // It may have been for what was read before.
            found = read(&mut self.symboliser);
        }
        if let Err(why @ (Unnamed::Died | Unnamed::TooSlow)) = found {
            if self.refused.len() >= REFUSED_MAX {
                self.refused.clear();
            }
            self.refused.insert(what, why);
        }
        found
    }
}

/// Where the code at `address` is from, and its address there.
fn origin(address: Address) -> (Origin, u64) {
    match address {
        Address::File { file, svma } => (Origin::File(file), svma),
        Address::Anonymous { pid, started, address } => (Origin::Process(pid, started), address),
    }
}

/// The frames at `address`: the inlined functions first, then the function that they are inlined into.
fn frames_at(address: Address, files: &HashMap<u32, File>, named: &Named) -> Vec<StackFrame> {
    let (origin, number) = origin(address);
    let file = match origin {
        Origin::File(number) => files.get(&number),
        Origin::Process(..) => None,
    };
    let unknown = StackFrame {
        module: file.map(|file| String::from_utf8_lossy(&file.name).into_owned()),
        address: Some(number),
        ..StackFrame::default()
    };
    let functions = match named.get(&origin) {
        Some(Ok(functions)) => functions.get(&number).map(Vec::as_slice).unwrap_or_default(),
        Some(Err(why)) => {
            return vec![StackFrame {
                unnamed: Some(*why),
                ..unknown
            }];
        }
        None => &[],
    };
    if functions.is_empty() {
        return vec![unknown];
    }
    let frame = |function: &Frame| StackFrame {
        function: function.function.clone(),
        address: unknown.address.filter(|_| !function.is_inlined),
        file: function.file.clone(),
        line: function.line,
        ..unknown.clone()
    };
    functions.iter().map(frame).collect()
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
