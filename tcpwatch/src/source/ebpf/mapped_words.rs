//! An array of numbers, mapped into memory. A read needs no system call and disturbs no BPF program.

use std::os::fd::AsFd;
use std::ptr::{self, NonNull};

use anyhow::{Context, Result, bail};
use aya::maps::Map;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// An array map, as words of 8 bytes.
pub(super) struct MappedWords {
    memory: NonNull<u64>,
    words: usize,
    /// Keeps the map open.
    _map: Map,
}

// SAFETY: the memory is read-only and lives as long as this value, on any thread.
unsafe impl Send for MappedWords {}

impl MappedWords {
    /// Maps `map`, whose values have `value_words` words, into memory.
    ///
    /// # Errors
    /// The map is not an array, or the kernel refuses.
    pub(super) fn new(map: Map, value_words: usize) -> Result<Self> {
        let Map::Array(data) = &map else {
            bail!("a map of the BPF object is not an array")
        };
        let words = usize::try_from(data.info()?.max_entries())? * value_words;
        // SAFETY: a new mapping at an address that the kernel chooses; no existing memory changes.
        let memory = unsafe {
            mmap(
                ptr::null_mut(),
                words * size_of::<u64>(),
                ProtFlags::READ,
                MapFlags::SHARED,
                data.fd().as_fd(),
                0,
            )
        }
        .context("cannot map an array of the BPF programs into memory")?;
        let memory = NonNull::new(memory.cast()).context("the kernel mapped an array at address 0")?;
        Ok(Self {
            memory,
            words,
            _map: map,
        })
    }

    /// Number of words.
    pub(super) fn len(&self) -> usize {
        self.words
    }

    /// Reads the word at `index` whole, since a BPF program may write it meanwhile. 0 beyond the end.
    pub(super) fn word(&self, index: usize) -> u64 {
        if index >= self.words {
            return 0;
        }
        // SAFETY: the index is within the mapping.
        unsafe { self.memory.add(index).read_volatile() }
    }
}

impl Drop for MappedWords {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `new`, with the same length, and no references to it exist.
        let _gone = unsafe { munmap(self.memory.as_ptr().cast(), self.words * size_of::<u64>()) };
    }
}
