//! An array of numbers, mapped into our memory: reading it is no system call, and disturbs no program.

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

// SAFETY: the memory is read only, and lives as long as this does, whichever thread it is on.
unsafe impl Send for MappedWords {}

impl MappedWords {
    /// Maps `map`, whose values have `value_words` words, into memory.
    ///
    /// # Errors
    /// It is no array, or the kernel refuses.
    pub(super) fn new(map: Map, value_words: usize) -> Result<Self> {
        let Map::Array(data) = &map else {
            bail!("the BPF object has no array where one is to be mapped")
        };
        let words = usize::try_from(data.info()?.max_entries())? * value_words;
        // SAFETY: a new mapping at an address of the kernel's choice, of no memory of ours.
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
        .context("cannot map an array of the kernel side into memory")?;
        let memory = NonNull::new(memory.cast()).context("an array of the kernel side is mapped nowhere")?;
        Ok(Self {
            memory,
            words,
            _map: map,
        })
    }

    /// How many words there are.
    pub(super) fn len(&self) -> usize {
        self.words
    }

    /// The word at `index`, read whole: the kernel side may be writing it. 0 beyond the end.
    pub(super) fn word(&self, index: usize) -> u64 {
        if index >= self.words {
            return 0;
        }
        // SAFETY: the mapping holds that many words.
        unsafe { self.memory.add(index).read_volatile() }
    }
}

impl Drop for MappedWords {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `new`, of the same length, and nothing refers to it any more.
        let _gone = unsafe { munmap(self.memory.as_ptr().cast(), self.words * size_of::<u64>()) };
    }
}
