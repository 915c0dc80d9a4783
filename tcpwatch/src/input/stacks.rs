//! Where in the code connections were opened: stacks, the same ones kept once, by socket.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;

/// An address in the code of a process, in a form that is the same for every process that runs the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// In a file that is mapped.
    File {
        /// The file's number.
        file: u32,
        /// The address as the file's symbols have it.
        svma: u64,
    },
    /// In memory that is no file's, such as code that was made while the program ran.
    Anonymous {
        /// The process, in the reader's pid namespace.
        pid: u32,
        /// When it began, `CLOCK_BOOTTIME` in ns as the kernel has it.
        started: u64,
        /// The address.
        address: u64,
    },
}

/// Why a stack could not be followed to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// It goes on outside of what was copied.
    CopyEnded,
    /// Its code is not a file's: made while the program ran (JIT), or unpacked.
    Anonymous,
    /// The file says nothing of how to leave the function there (`.eh_frame`).
    NoUnwindInfo,
    /// What the file says of it cannot be right, or needs a register whose value is not known.
    Undecided,
    /// It is deeper than is followed.
    TooDeep,
    /// The process was gone, or became another program, before its files were looked at.
    ProcessGone,
    /// What it runs could not be looked at.
    Unreadable,
    /// What it runs is a file, and no 64-bit program.
    NotElf64,
}

impl Why {
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
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CopyEnded => "the stack goes on past what was copied of it",
            Self::Anonymous => "the code there was made while the program ran",
            Self::NoUnwindInfo => "the file does not tell how to go on (.eh_frame)",
            Self::Undecided => "what the file tells of how to go on cannot be followed",
            Self::TooDeep => "the stack is deeper than is followed",
            Self::ProcessGone => "the process was gone before its files were looked at",
            Self::Unreadable => "its files could not be looked at",
            Self::NotElf64 => "its file is no 64-bit program, and others are not followed",
        })
    }
}

/// A stack, unwound: from the one that was called last to the one that was called first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Trace {
    /// The instruction the task was at, and where each caller goes on.
    pub addresses: Vec<Address>,
    /// Whether the last is where the thread began.
    pub finished: Result<(), Why>,
}

/// A frame of a stack, as people know it. What is in it came from outside, and is not escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct StackFrame {
    /// The function, demangled; `None` where the file does not tell.
    pub function: Option<String>,
    /// Name of the file it is in, without its path; `None` where it is in none.
    pub module: Option<String>,
    /// The address in the file, as its symbols have it, or in the process where there is no file; `None` for a function that is
    /// inlined into the one after it.
    pub address: Option<u64>,
    /// The source file.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
}

/// A stack, as people know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// The first is who called `accept()` or `connect()`: what the C library does on the way is left out, where it can be told.
    pub frames: Vec<StackFrame>,
    /// Whether the first is surely that. It is not where the system call was made by code without a name: that may be a C library
    /// which is part of a stripped program.
    pub caller_known: bool,
    /// Whether the last is where the thread began.
    pub finished: Result<(), Why>,
}

/// The number of a [`Trace`]; of those kept, no other has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackId(u32);

/// Stacks by socket. Bounded: the oldest sockets go first, and are counted.
#[derive(Debug)]
pub struct StackTable {
    /// By inode number.
    sockets: HashMap<u32, Opened>,
    /// Inode numbers in the order in which their sockets were opened. One may be there for a socket that is no more.
    order: VecDeque<(u32, u64)>,
    traces: HashMap<StackId, Kept>,
    ids: HashMap<Arc<Trace>, StackId>,
    next: u32,
    most: usize,
    evicted: u64,
}

/// What is known of a socket.
#[derive(Clone, Copy, Debug)]
struct Opened {
    id: StackId,
    /// When, on the kernel side's clock in ns.
    time_ns: u64,
}

#[derive(Debug)]
struct Kept {
    trace: Arc<Trace>,
    /// Sockets that have it.
    sockets: usize,
}

impl StackTable {
    /// One with room for `most` sockets.
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

    /// The socket `inode` was opened at `time_ns`, with this stack; what is kept under its number is of a socket that is no more, or
    /// of an earlier `connect()`.
    pub fn opened(&mut self, inode: u32, time_ns: u64, trace: Trace) {
        self.forget(inode);
        while self.sockets.len() >= self.most {
            let Some((oldest, opened_at)) = self.order.pop_front() else {
                break;
            };
            if self.is_of(oldest, opened_at) {
                self.forget(oldest);
                self.evicted += 1;
            }
        }
        // Of sockets forgotten otherwise too much would be left here.
        if self.order.len() > 2 * self.sockets.len() + 64 {
            let mut order = std::mem::take(&mut self.order);
            order.retain(|&(inode, opened_at)| self.is_of(inode, opened_at));
            self.order = order;
        }
        let id = self.intern(trace);
        if let Some(kept) = self.traces.get_mut(&id) {
            kept.sockets += 1;
        }
        self.sockets.insert(inode, Opened { id, time_ns });
        self.order.push_back((inode, time_ns));
    }

    /// The stack that opened the socket `inode`.
    #[must_use]
    pub fn of(&self, inode: u32) -> Option<StackId> {
        self.sockets.get(&inode).map(|opened| opened.id)
    }

    /// The stack of this number.
    #[must_use]
    pub fn trace(&self, id: StackId) -> Option<&Arc<Trace>> {
        self.traces.get(&id).map(|kept| &kept.trace)
    }

    /// Keeps, of the sockets opened before `time_ns` (on the kernel side's clock), those that are `open` still.
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

    /// Sockets that had to make room for others, whose stacks are not known any more.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// How many sockets, and how many different stacks, are kept.
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
        self.next = self.next.wrapping_add(1);
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
        assert_eq!(table.of(1), table.of(3));
        assert_ne!(table.of(1), table.of(4));
        assert_eq!(table.len(), (4, 2));
        let id = table.of(4).unwrap();
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
        assert_ne!(table.of(1), table.of(2));
    }

    #[test]
    fn the_oldest_make_room_and_are_counted() {
        let mut table = StackTable::new(2);
        for inode in 1..=3 {
            table.opened(inode, u64::from(inode), trace(u64::from(inode)));
        }
        assert_eq!(table.of(1), None);
        assert!(table.of(2).is_some() && table.of(3).is_some());
        assert_eq!((table.evicted(), table.len()), (1, (2, 2)));
    }

    #[test]
    fn a_number_used_again_is_of_the_newer_socket_and_evicts_none() {
        let mut table = StackTable::new(2);
        for time_ns in 1..=100 {
            table.opened(7, time_ns, trace(time_ns));
        }
        table.opened(8, 101, trace(1));
        assert_eq!((table.evicted(), table.len()), (0, (2, 2)));
        let id = table.of(7).unwrap();
        assert_eq!(**table.trace(id).unwrap(), trace(100));
        // The older of the two, by the newest of its times.
        table.opened(9, 102, trace(2));
        assert_eq!((table.of(7), table.evicted()), (None, 1));
    }

    #[test]
    fn those_that_are_gone_are_forgotten_with_their_stacks() {
        let mut table = StackTable::new(10);
        for inode in 1..=4 {
            table.opened(inode, u64::from(inode), trace(u64::from(inode) % 2));
        }
        // What was opened since the look may be open.
        table.retain(4, |inode| inode == 1);
        assert!(table.of(1).is_some() && table.of(4).is_some());
        assert!(table.of(2).is_none() && table.of(3).is_none());
        assert_eq!((table.len(), table.evicted()), ((2, 2), 0));
        table.retain(5, |_| false);
        assert_eq!(table.len(), (0, 0));
    }
}
