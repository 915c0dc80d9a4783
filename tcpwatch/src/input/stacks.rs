//! The user stacks that opened connections, by socket. Equal stacks are stored once.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};

/// A code address, in a form that is equal for all processes that run the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An address in a mapped file.
    File {
        /// Number of the file.
        file: u32,
        /// The address in the file, as in its symbols.
        svma: u64,
    },
    /// An address in anonymous memory, such as JIT code.
    Anonymous {
        /// Process ID in the PID namespace of tcpwatch.
        pid: u32,
        /// Start time of the process, `CLOCK_BOOTTIME` of the kernel in ns.
        started: u64,
        /// The address.
        address: u64,
    },
}

/// Why a stack could not be unwound to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Why {
    /// The stack is longer than the copy.
    CopyEnded,
    /// The code is in anonymous memory: JIT code or unpacked code.
    Anonymous,
    /// The file has no unwind information for the function (`.eh_frame`).
    NoUnwindInfo,
    /// The unwind information is wrong, or needs a register with an unknown value.
    Undecided,
    /// The stack has more frames than tcpwatch follows.
    TooDeep,
    /// The process exited or called `execve()` before its files were read.
    ProcessGone,
    /// Its files could not be read.
    Unreadable,
    /// Its file is not a 64-bit ELF file.
    NotElf64,
    /// Reading its file took too long, or too much memory.
    Stopped,
    /// The process that reads files of programs could not be started.
    NoSymboliser,
}

impl Why {
    /// All reasons.
    pub const ALL: [Self; 10] = [
        Self::CopyEnded,
        Self::Anonymous,
        Self::NoUnwindInfo,
        Self::Undecided,
        Self::TooDeep,
        Self::ProcessGone,
        Self::Unreadable,
        Self::NotElf64,
        Self::Stopped,
        Self::NoSymboliser,
    ];

    /// The word in machine output.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::CopyEnded => "copy_ended",
            Self::Anonymous => "anonymous_code",
            Self::NoUnwindInfo => "no_unwind_info",
            Self::Undecided => "undecided",
            Self::TooDeep => "too_deep",
            Self::ProcessGone => "process_gone",
            Self::Unreadable => "unreadable",
            Self::NotElf64 => "not_elf64",
            Self::Stopped => "stopped",
            Self::NoSymboliser => "no_symboliser",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CopyEnded => "the stack is longer than its copy",
            Self::Anonymous => "the code is not from a file (JIT or unpacked)",
            Self::NoUnwindInfo => "the file has no unwind information (.eh_frame)",
            Self::Undecided => "the unwind information of the file cannot be followed",
            Self::TooDeep => "the stack has too many frames",
            Self::ProcessGone => "the process exited before its files were read",
            Self::Unreadable => "its files could not be read",
            Self::NotElf64 => "its file is not a 64-bit program",
            Self::Stopped => "reading its file took too long, or too much memory",
            Self::NoSymboliser => "the process that reads programs could not be started",
        })
    }
}

/// Why a function has no name although its code may have symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Unnamed {
    /// The file, or its perf map, could not be read.
    Unreadable,
    /// The perf map is too large.
    TooLarge,
    /// The perf map is a link, or no regular file.
    MapNoFile,
    /// The perf map belongs to another user.
    MapOfOther,
    /// Reading the symbols ended the process that reads them: they are damaged, or need too much memory.
    Died,
    /// Reading the symbols took too long.
    TooSlow,
    /// The process that reads symbols could not be started.
    NoSymboliser,
}

impl Unnamed {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::Unreadable,
        Self::TooLarge,
        Self::MapNoFile,
        Self::MapOfOther,
        Self::Died,
        Self::TooSlow,
        Self::NoSymboliser,
    ];

    /// The word in machine output.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::TooLarge => "map_too_large",
            Self::MapNoFile => "map_no_file",
            Self::MapOfOther => "map_of_other_user",
            Self::Died => "symbols_damaged",
            Self::TooSlow => "symbols_too_slow",
            Self::NoSymboliser => "no_symboliser",
        }
    }
}

impl fmt::Display for Unnamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "its symbols could not be read",
            Self::TooLarge => "its perf map is larger than 64 MB",
            Self::MapNoFile => "its perf map is no regular file",
            Self::MapOfOther => "its perf map belongs to another user",
            Self::Died => "its symbols are damaged, or need too much memory",
            Self::TooSlow => "reading its symbols took more than 10 s",
            Self::NoSymboliser => "the process that reads symbols could not be started",
        })
    }
}

/// An unwound stack, the innermost frame first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Trace {
    /// The current instruction, and the return address of each caller.
    pub addresses: Vec<Address>,
    /// Whether the last frame is the start of the thread.
    pub finished: Result<(), Why>,
}

/// A frame of a symbolised stack. Its texts come from outside and are not escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StackFrame {
    /// The demangled function name; `None` if the file has no symbol.
    pub function: Option<String>,
    /// Name of the mapped file, without its path; `None` if there is none.
    pub module: Option<String>,
    /// The address in the file, as in its symbols, or in the process if there is no file. `None` for a function inlined into
    /// the next frame.
    pub address: Option<u64>,
    /// The source file.
    pub file: Option<String>,
    /// The line in the source file.
    pub line: Option<u32>,
    /// Why the function is unknown, if it is not just that there is no symbol.
    pub unnamed: Option<Unnamed>,
}

/// A symbolised stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// The frames. The first is the caller of `accept()` or `connect()`; frames of the C library are left out where they are
    /// recognised.
    pub frames: Vec<StackFrame>,
    /// Whether the first frame is certainly the caller. It is not certain if code without a symbol made the system call, which
    /// may be a statically linked C library.
    pub caller_known: bool,
    /// Whether the last frame is the start of the thread.
    pub finished: Result<(), Why>,
}

/// The number of a [`Trace`], unique among the stored ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackId(pub u64);

/// Different stacks that a [`StackTable`] stores at most, 6 KB each at most.
const TRACES_MAX: usize = 16_384;

/// Stacks by socket, with a limit. The oldest socket is evicted for a new one; a socket whose stack is one more than [`TRACES_MAX`] is left
/// out. Both are counted. A socket goes when it is closed, and a stack with its last socket.
#[derive(Debug)]
pub struct StackTable {
    /// Sockets by inode number.
    sockets: HashMap<u32, Opening>,
    /// Inode numbers in the order in which the sockets were opened. Some entries may belong to sockets that are gone.
    order: VecDeque<(u32, u64)>,
    traces: HashMap<StackId, Kept>,
    ids: HashMap<Arc<Trace>, StackId>,
    next: u64,
    most: usize,
    evicted: u64,
}

/// The stack of a socket.
#[derive(Clone, Copy, Debug)]
struct Opening {
    id: StackId,
    /// When the socket was opened, `CLOCK_MONOTONIC` in ns.
    time_ns: u64,
}

#[derive(Debug)]
struct Kept {
    trace: Arc<Trace>,
    /// Number of sockets with this stack.
    sockets: usize,
}

impl StackTable {
    /// Creates a table for at most `most` sockets.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            sockets: HashMap::new(),
            order: VecDeque::new(),
            traces: HashMap::new(),
            ids: HashMap::new(),
            next: 0,
            most: most.max(1),
            evicted: 0,
        }
    }

    /// Records that the socket `inode` was opened at `time_ns` with this stack. An older entry of this inode belongs to a
    /// closed socket or an earlier `connect()`, and is replaced.
    pub fn opened(&mut self, inode: u32, time_ns: u64, trace: Trace) {
        self.forget(inode);
        if self.traces.len() >= TRACES_MAX && !self.ids.contains_key(&trace) {
            self.evicted += 1;
            return;
        }
        while self.sockets.len() >= self.most {
            let Some((oldest, opened_at)) = self.order.pop_front() else {
                break;
            };
            if self.is_of(oldest, opened_at) {
                self.forget(oldest);
                self.evicted += 1;
            }
        }
        // Remove entries of forgotten sockets, so that the queue stays small.
        if self.order.len() > 2 * self.sockets.len() + 64 {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|&(inode, opened_at)| self.is_of(inode, opened_at));
            self.order = order;
        }
        let id = self.intern(trace);
        if let Some(kept) = self.traces.get_mut(&id) {
            kept.sockets += 1;
        }
        self.sockets.insert(inode, Opening { id, time_ns });
        self.order.push_back((inode, time_ns));
    }

    /// The stack that opened the socket `inode`.
    #[must_use]
    pub fn opening_stack(&self, inode: u32) -> Option<StackId> {
        self.sockets.get(&inode).map(|opened| opened.id)
    }

    /// The stack with this number.
    #[must_use]
    pub fn trace(&self, id: StackId) -> Option<&Arc<Trace>> {
        self.traces.get(&id).map(|kept| &kept.trace)
    }

    /// Removes the sockets opened before `time_ns` (`CLOCK_MONOTONIC`) that are no longer `open`.
    pub fn retain(&mut self, time_ns: u64, mut open: impl FnMut(u32) -> bool) {
        let gone: Vec<u32> = self
            .sockets
            .iter()
            .filter(|&(&inode, opened)| opened.time_ns < time_ns && !open(inode))
            .map(|(&inode, _)| inode)
            .collect();
        for inode in gone {
            self.forget(inode);
        }
    }

    /// Numbers of the files that the stored stacks lead through.
    #[must_use]
    pub fn files(&self) -> HashSet<u32> {
        let addresses = self.traces.values().flat_map(|kept| &kept.trace.addresses);
        let file = |address: &Address| match *address {
            Address::File { file, .. } => Some(file),
            Address::Anonymous { .. } => None,
        };
        addresses.filter_map(file).collect()
    }

    /// Number of sockets evicted to make room for others, or left out.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The number of sockets and of distinct stacks.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.sockets.len(), self.traces.len())
    }

    fn is_of(&self, inode: u32, time_ns: u64) -> bool {
        self.sockets.get(&inode).is_some_and(|opened| opened.time_ns == time_ns)
    }

    fn forget(&mut self, inode: u32) {
        let Some(opened) = self.sockets.remove(&inode) else {
            return;
        };
        if let Some(kept) = self.traces.get_mut(&opened.id) {
            kept.sockets -= 1;
            if kept.sockets == 0
                && let Some(kept) = self.traces.remove(&opened.id)
            {
                self.ids.remove(&kept.trace);
            }
        }
    }

    fn intern(&mut self, trace: Trace) -> StackId {
        if let Some(&id) = self.ids.get(&trace) {
            return id;
        }
        let id = StackId(self.next);
        self.next += 1;
        let trace = Arc::new(trace);
        self.ids.insert(Arc::clone(&trace), id);
        self.traces.insert(id, Kept { trace, sockets: 0 });
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(svma: u64) -> Trace {
        Trace {
            addresses: vec![Address::File { file: 0, svma }],
            finished: Ok(()),
        }
    }

    #[test]
    fn the_same_stack_is_kept_once() {
        let mut table = StackTable::new(10);
        for inode in 1..=3 {
            table.opened(inode, u64::from(inode), trace(8));
        }
        table.opened(4, 4, trace(9));
        assert_eq!(table.opening_stack(1), table.opening_stack(3));
        assert_ne!(table.opening_stack(1), table.opening_stack(4));
        assert_eq!(table.len(), (4, 2));
        let id = table.opening_stack(4).unwrap();
        assert_eq!(**table.trace(id).unwrap(), trace(9));
    }

    #[test]
    fn an_unfinished_stack_is_another_than_a_finished_one() {
        let mut table = StackTable::new(10);
        table.opened(1, 1, trace(8));
        let cut = Trace {
            finished: Err(Why::CopyEnded),
            ..trace(8)
        };
        table.opened(2, 2, cut);
        assert_ne!(table.opening_stack(1), table.opening_stack(2));
    }

    #[test]
    fn the_oldest_make_room_and_are_counted() {
        let mut table = StackTable::new(2);
        for inode in 1..=3 {
            table.opened(inode, u64::from(inode), trace(u64::from(inode)));
        }
        assert_eq!(table.opening_stack(1), None);
        assert!(table.opening_stack(2).is_some() && table.opening_stack(3).is_some());
        assert_eq!((table.evicted(), table.len()), (1, (2, 2)));
    }

    #[test]
    fn different_stacks_are_bounded_and_go_with_their_sockets() {
        let mut table = StackTable::new(1_000_000);
        let most = u32::try_from(TRACES_MAX).unwrap();
        for inode in 1..=most + 3 {
            table.opened(inode, u64::from(inode), trace(u64::from(inode)));
        }
        assert_eq!((table.len(), table.evicted()), ((TRACES_MAX, TRACES_MAX), 3));
        table.opened(most + 4, 0, trace(1));
        assert_eq!(table.opening_stack(most + 4), table.opening_stack(1));
        table.retain(u64::MAX, |inode| inode == 1);
        table.opened(2, 0, trace(2));
        assert_eq!((table.len(), table.evicted()), ((2, 2), 3));
        assert_eq!(table.files(), HashSet::from_iter([0]));
    }

    #[test]
    fn a_number_used_again_is_of_the_newer_socket_and_evicts_none() {
        let mut table = StackTable::new(2);
        for time_ns in 1..=100 {
            table.opened(7, time_ns, trace(time_ns));
        }
        table.opened(8, 101, trace(1));
        assert_eq!((table.evicted(), table.len()), (0, (2, 2)));
        let id = table.opening_stack(7).unwrap();
        assert_eq!(**table.trace(id).unwrap(), trace(100));
        // The older of the two, by the newest of its times.
        table.opened(9, 102, trace(2));
        assert_eq!((table.opening_stack(7), table.evicted()), (None, 1));
    }

    #[test]
    fn those_that_are_gone_are_forgotten_with_their_stacks() {
        let mut table = StackTable::new(10);
        for inode in 1..=4 {
            table.opened(inode, u64::from(inode), trace(u64::from(inode) % 2));
        }
        // A socket opened after the scan may be open.
        table.retain(4, |inode| inode == 1);
        assert!(table.opening_stack(1).is_some() && table.opening_stack(4).is_some());
        assert!(table.opening_stack(2).is_none() && table.opening_stack(3).is_none());
        assert_eq!((table.len(), table.evicted()), ((2, 2), 0));
        table.retain(5, |_| false);
        assert_eq!(table.len(), (0, 0));
    }
}
