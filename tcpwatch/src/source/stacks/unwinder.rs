//! From a copy of a stack to the addresses that called each other.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;
use tcpwatch_common::StackHead;

use super::files::Files;
use super::process::Process;
use super::unwind::{Memory, Registers};
use crate::clock;
use crate::input::stacks::{Address, Trace, Why};

/// Frames that are followed at most.
const FRAMES_MAX: usize = 256;
/// Processes whose maps are kept; before one more, all are forgotten, and are read again where needed.
const PROCESSES_MAX: usize = 1024;
/// How old maps may be: a library may have come, or another in its place.
const MAPS_MAX_AGE_NS: u64 = 1_000_000_000;

/// Unwinds stacks of any process, at once: it may be gone soon.
pub(super) struct Unwinder {
    root: PathBuf,
    /// At most [`PROCESSES_MAX`], each for [`MAPS_MAX_AGE_NS`].
    processes: HashMap<u32, Process>,
    files: Arc<Mutex<Files>>,
}

impl Unwinder {
    /// One that looks under `root`, and keeps what it opens in `files`.
    pub(super) fn new(root: PathBuf, files: Arc<Mutex<Files>>) -> Self {
        Self {
            root,
            processes: HashMap::new(),
            files,
        }
    }

    /// The stack that `head` and the bytes copied of it show.
    pub(super) fn unwind(&mut self, head: &StackHead, stack: &[u8]) -> Trace {
        let mut addresses = Vec::new();
        let finished = self.follow(head, stack, &mut addresses);
        Trace { addresses, finished }
    }

    fn follow(&mut self, head: &StackHead, stack: &[u8], addresses: &mut Vec<Address>) -> Result<(), Why> {
        let pid = head.owner.pid;
        let now_ns = clock::monotonic_ns();
        let known = self.processes.get(&pid);
        let mut fresh = !known
            .is_some_and(|process| process.is_of(head) && now_ns.saturating_sub(process.read_ns) < MAPS_MAX_AGE_NS);
        if fresh {
            self.read(head, now_ns)?;
        }
        let mut registers = Registers::from_head(head);
        let memory = Memory {
            start: registers.sp(),
            bytes: stack,
        };
        // The innermost frame is at an instruction, the others are where a call returns to, which may be past its function's end.
        let mut exact = true;
        while addresses.len() < FRAMES_MAX {
            let address = registers.pc.wrapping_sub(u64::from(!exact));
            if !fresh && !self.processes.get(&pid).is_some_and(|process| process.has(address)) {
                self.read(head, now_ns)?;
                fresh = true;
            }
            let process = self.processes.get_mut(&pid).ok_or(Why::ProcessGone)?;
            let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
            let found = process.file(&self.root, address, &mut files);
            drop(files);
            let (binary, bias) = found.inspect_err(|why| {
                if *why != Why::Undecided {
                    addresses.push(Address::Anonymous {
                        pid,
                        started: head.started,
                        address,
                    });
                }
            })?;
            let svma = address.wrapping_sub(bias);
            addresses.push(Address::File {
                file: binary.number,
                svma,
            });
            let (rule, section) = binary.rule(svma)?;
            let Some(caller) = rule.leave(section, &registers, memory, addresses.len() == 1)? else {
                return Ok(());
            };
            registers = caller;
            exact = rule.interrupts;
        }
        Err(Why::TooDeep)
    }

    /// Reads the maps of the process that `head` is of.
    fn read(&mut self, head: &StackHead, now_ns: u64) -> Result<(), Why> {
        let process = Process::read(Path::new(&self.root), head, now_ns).inspect_err(|_| {
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
        let mut unwinder = Unwinder::new(root.to_owned(), Arc::default());
        let mut kept = |pid: u32, now_ns: u64| {
            unwinder.keep(pid, Process::read(root, &head, now_ns).unwrap(), now_ns);
            unwinder.processes.len()
        };
        assert_eq!([1, 2, 3].map(|pid| kept(pid, pid.into())), [1, 2, 3]);
        assert_eq!(kept(4, MAPS_MAX_AGE_NS + 2), 2, "the third may be used still");
        assert_eq!(kept(5, 5 * MAPS_MAX_AGE_NS), 1);
    }
}
