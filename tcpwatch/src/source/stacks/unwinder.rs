//! Has copies of stacks unwound: the symboliser follows them, and asks here what is mapped in their processes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;
use tcpwatch_common::StackHead;

use super::files::Files;
use super::process::Process;
use crate::clock;
use crate::input::stacks::{Address, Trace, Why};
use crate::symboliser::{Answer, Ask, Copied, Place, Stopped, Symboliser, Walked};

/// Processes whose maps are kept; before one more, all are forgotten, and are read again where needed.
const PROCESSES_MAX: usize = 1024;
/// How old maps may be: a library may have come, or another in its place.
const MAPS_MAX_AGE_NS: u64 = 1_000_000_000;
/// Files that are not read again; before one more, all are forgotten, and are tried again.
const REFUSED_MAX: usize = 16_384;

/// Unwinds stacks of any process, at once: it may be gone soon.
pub(super) struct Unwinder {
    maps: Maps,
    symboliser: Symboliser,
    /// Those to unwind next.
    batch: Vec<Pending>,
}

/// A stack that waits, and its copy; or why it cannot be unwound.
struct Pending {
    head: StackHead,
    copied: Result<Copied, Why>,
}

/// What processes have mapped.
struct Maps {
    root: PathBuf,
    /// At most [`PROCESSES_MAX`], each for [`MAPS_MAX_AGE_NS`].
    processes: HashMap<u32, Process>,
    /// How often maps were read.
    reads: u32,
    files: Arc<Mutex<Files>>,
    /// The files that ended the symboliser: at most [`REFUSED_MAX`].
    refused: HashMap<u32, Why>,
    /// The file that was given last.
    given: Option<u32>,
}

impl Unwinder {
    /// One that looks under `root`, and keeps what it opens in `files`.
    pub(super) fn new(root: PathBuf, symboliser: Symboliser, files: Arc<Mutex<Files>>) -> Self {
        Self {
            maps: Maps {
                root,
                processes: HashMap::new(),
                reads: 0,
                files,
                refused: HashMap::new(),
                given: None,
            },
            symboliser,
            batch: Vec::new(),
        }
    }

    /// Starts the symboliser: a stack that waits for that may be of a process that is gone then.
    pub(super) fn start(&mut self) {
        // The first stack says why.
        let _ = self.symboliser.start();
    }

    /// Adds the stack that `head` and the bytes copied of it show to those to unwind next; returns how many they are.
    pub(super) fn push(&mut self, head: &StackHead, stack: &[u8]) -> usize {
        let copied = self.maps.number(head).map(|process| Copied {
            process,
            registers: head.registers.to_vec(),
            stack: stack.to_vec(),
        });
        self.batch.push(Pending { head: *head, copied });
        self.batch.len()
    }

    /// Unwinds all that were added since, in their order.
    pub(super) fn unwind(&mut self) -> Vec<(StackHead, Trace)> {
        let batch = std::mem::take(&mut self.batch);
        let heads: HashMap<u32, StackHead> = batch
            .iter()
            .filter_map(|pending| Some((pending.copied.as_ref().ok()?.process, pending.head)))
            .collect();
        let mut copies = Vec::with_capacity(batch.len());
        let mut refused = Vec::with_capacity(batch.len());
        for pending in batch {
            refused.push((pending.head, pending.copied.as_ref().err().copied()));
            copies.extend(pending.copied);
        }
        let mut walked = self.walk(&copies, &heads).into_iter();
        let trace = |(head, why): (StackHead, Option<Why>)| {
            let walked = why.map(Walked::unknown).or_else(|| walked.next());
            let walked = walked.unwrap_or_else(|| Walked::unknown(Why::Stopped));
            (head, of_process(walked, &head))
        };
        refused.into_iter().map(trace).collect()
    }

    /// Has `copies` unwound. If that ends the symboliser, each is tried alone, by one that has read nothing yet: the file that was given
    /// last before a stack alone ended it is not read again.
    fn walk(&mut self, copies: &[Copied], heads: &HashMap<u32, StackHead>) -> Vec<Walked> {
        let unknown = |why| vec![Walked::unknown(why); copies.len()];
        if copies.is_empty() {
            return Vec::new();
        }
        self.maps.given = None;
        let is_new = !self.symboliser.is_running();
        let maps = &mut self.maps;
        let unwound = self
            .symboliser
            .unwind(copies.to_vec(), &mut |ask| maps.answer(ask, heads));
        match unwound {
            Ok(walked) => walked,
            Err(Stopped::NotStarted) => unknown(Why::NoSymboliser),
            Err(Stopped::Died | Stopped::TooSlow) if copies.len() > 1 || !is_new => {
                let alone = copies
                    .iter()
                    .flat_map(|copied| self.walk(std::slice::from_ref(copied), heads));
                alone.collect()
            }
            Err(Stopped::Died | Stopped::TooSlow) => {
                if let Some(file) = self.maps.given {
                    self.maps.refuse(file);
                }
                unknown(Why::Stopped)
            }
        }
    }
}

/// The stack of the process that `head` is of.
fn of_process(walked: Walked, head: &StackHead) -> Trace {
    let address = |place| match place {
        Place::File(file, svma) => Address::File { file, svma },
        Place::Anonymous(address) => Address::Anonymous {
            pid: head.owner.pid,
            started: head.started,
            address,
        },
    };
    Trace {
        addresses: walked.places.into_iter().map(address).collect(),
        finished: walked.finished,
    }
}

impl Maps {
    /// The number of the maps of the process that `head` is of, which are read if they are too old.
    fn number(&mut self, head: &StackHead) -> Result<u32, Why> {
        let now_ns = clock::monotonic_ns();
        let known = self
            .processes
            .get(&head.owner.pid)
            .filter(|process| process.is_of(head) && now_ns.saturating_sub(process.read_ns) < MAPS_MAX_AGE_NS);
        if let Some(process) = known {
            return Ok(process.number);
        }
        self.reads = self.reads.wrapping_add(1);
        self.read(head, self.reads, now_ns)?;
        Ok(self.reads)
    }

    /// Reads the maps of the process that `head` is of, and calls them `number`.
    fn read(&mut self, head: &StackHead, number: u32, now_ns: u64) -> Result<(), Why> {
        let process = Process::read(&self.root, head, number, now_ns).inspect_err(|_| {
            self.processes.remove(&head.owner.pid);
        })?;
        self.keep(head.owner.pid, process, now_ns);
        Ok(())
    }

    /// Keeps `process`, and forgets those whose maps are too old to be used.
    fn keep(&mut self, pid: u32, process: Process, now_ns: u64) {
        self.processes
            .retain(|_, process| now_ns.saturating_sub(process.read_ns) < MAPS_MAX_AGE_NS);
        if self.processes.len() >= PROCESSES_MAX {
            self.processes.clear();
        }
        self.processes.insert(pid, process);
    }

    /// What the process with the number that is asked for has mapped at an address. A library may have come since its maps were read.
    fn answer(&mut self, ask: Ask, heads: &HashMap<u32, StackHead>) -> Answer {
        let head = heads.get(&ask.process).ok_or(Why::Unreadable)?;
        let pid = head.owner.pid;
        if self.processes.get(&pid).is_some_and(|process| !process.is_of(head)) {
            return Err(Why::ProcessGone);
        }
        let is_known = |process: &Process| process.number == ask.process && process.has(ask.address);
        if !self.processes.get(&pid).is_some_and(is_known) {
            self.read(head, ask.process, clock::monotonic_ns())?;
        }
        let process = self.processes.get_mut(&pid).ok_or(Why::ProcessGone)?;
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let (found, file) = process.mapping(Path::new(&self.root), ask.address, &mut files)?;
        drop(files);
        if let Some(why) = self.refused.get(&found.file) {
            return Err(*why);
        }
        self.given = Some(found.file);
        Ok((found, file))
    }

    fn refuse(&mut self, file: u32) {
        if self.refused.len() >= REFUSED_MAX {
            self.refused.clear();
        }
        self.refused.insert(file, Why::Stopped);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::sys::procs::process;

    #[test]
    fn maps_are_kept_as_long_as_they_are_used() {
        let root = Path::new("/");
        let pid = std::process::id();
        let mut head: StackHead = bytemuck::Zeroable::zeroed();
        head.owner.pid = pid;
        head.started = process(root, NonZeroU32::new(pid).unwrap()).unwrap().start_ns;
        let symboliser = Symboliser::new(Path::new("/nonexistent"));
        let mut maps = Unwinder::new(root.to_owned(), symboliser, Arc::default()).maps;
        let mut kept = |pid: u32, now_ns: u64| {
            maps.keep(pid, Process::read(root, &head, 1, now_ns).unwrap(), now_ns);
            maps.processes.len()
        };
        assert_eq!([1, 2, 3].map(|pid| kept(pid, pid.into())), [1, 2, 3]);
        assert_eq!(kept(4, MAPS_MAX_AGE_NS + 2), 2, "the third may be used still");
        assert_eq!(kept(5, 5 * MAPS_MAX_AGE_NS), 1);
    }

    #[test]
    fn without_a_symboliser_a_stack_says_so() {
        let root = Path::new("/");
        let pid = std::process::id();
        let mut head: StackHead = bytemuck::Zeroable::zeroed();
        head.owner.pid = pid;
        head.started = process(root, NonZeroU32::new(pid).unwrap()).unwrap().start_ns;
        let mut gone = head;
        gone.started += 1_000_000_000_000;
        let symboliser = Symboliser::new(Path::new("/nonexistent"));
        let mut unwinder = Unwinder::new(root.to_owned(), symboliser, Arc::default());
        assert_eq!((unwinder.push(&gone, &[]), unwinder.push(&head, &[])), (1, 2));
        let traces = unwinder.unwind();
        let finished: Vec<_> = traces.iter().map(|(_, trace)| trace.finished).collect();
        assert_eq!(finished, [Err(Why::ProcessGone), Err(Why::NoSymboliser)]);
    }
}
