//! The files that processes run, each opened once.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::binary::{Binary, FileKey};
use crate::input::stacks::{Address, Trace, Why};

/// Files that are open at once: a process may have a thousand descriptors by default.
const OPEN_MAX: usize = 256;
/// Files whose names are kept.
const NAMES_MAX: usize = 16_384;

/// The files that processes run. Names of [`NAMES_MAX`] are kept at most; the stacks of one more end there, and say so. [`OPEN_MAX`] of them
/// are open at most; one more closes another. A file goes when no kept stack leads through it and it was not used since the scan before.
#[derive(Default)]
pub(super) struct Files {
    numbers: HashMap<FileKey, u32>,
    all: BTreeMap<u32, File>,
    /// The number of the next file: a number is used once.
    next: u32,
    open: usize,
    /// The one that was closed last.
    hand: u32,
}

/// A file that a process runs.
#[derive(Clone)]
pub(super) struct File {
    /// Without its path.
    pub(super) name: Vec<u8>,
    /// `None` where it made room for others.
    pub(super) binary: Option<Arc<Binary>>,
    /// Whether it was used since the last [`Files::retain`].
    is_used: bool,
}

impl Files {
    /// The file `key`, called `name`; `open` opens it, where it is not open.
    pub(super) fn get(
        &mut self,
        key: FileKey,
        name: &[u8],
        open: impl FnOnce() -> Option<OwnedFd>,
    ) -> Result<Arc<Binary>, Why> {
        let known = self.numbers.get(&key).copied();
        if let Some(binary) = known.and_then(|number| self.binary(number)) {
            return Ok(binary);
        }
        if known.is_none() && self.all.len() >= NAMES_MAX {
            return Err(Why::Unreadable);
        }
        let number = known.unwrap_or(self.next);
        let file = open().ok_or(Why::Unreadable)?;
        let binary = Binary::read(number, file).map_err(|why| {
            log::debug!("a mapped file cannot be read: {why:#}");
            if why.downcast_ref::<std::io::Error>().is_some() {
                Why::Unreadable
            } else {
                Why::NotElf64
            }
        })?;
        if self.open >= OPEN_MAX {
            self.close_one();
        }
        let binary = Arc::new(binary);
        self.open += 1;
        if known.is_none() {
            self.next = self.next.checked_add(1).ok_or(Why::Unreadable)?;
            self.numbers.insert(key, number);
        }
        let file = self.all.entry(number).or_insert_with(|| File {
            name: name.to_vec(),
            binary: None,
            is_used: true,
        });
        (file.binary, file.is_used) = (Some(Arc::clone(&binary)), true);
        Ok(binary)
    }

    /// Closes one, unless somebody has it in use. All have their turn, so that one that is used by all is not closed each time.
    fn close_one(&mut self) {
        let is_open = |(number, file): (&u32, &File)| file.binary.is_some().then_some(*number);
        let mut after = self.all.range(self.hand.saturating_add(1)..);
        let next = after.find_map(is_open).or_else(|| self.all.iter().find_map(is_open));
        if let Some(file) = next.and_then(|number| self.all.get_mut(&number)) {
            file.binary = None;
            self.open -= 1;
        }
        self.hand = next.unwrap_or(0);
    }

    /// The file of this number, where it is open.
    pub(super) fn binary(&mut self, number: u32) -> Option<Arc<Binary>> {
        let file = self.all.get_mut(&number)?;
        file.is_used = true;
        file.binary.clone()
    }

    /// Forgets the files that were not used since the last call, except those with a number in `kept`.
    pub(super) fn retain(&mut self, kept: &HashSet<u32>) {
        self.all
            .retain(|number, file| std::mem::take(&mut file.is_used) || kept.contains(number));
        self.numbers.retain(|_, number| self.all.contains_key(number));
        self.open = self.all.values().filter(|file| file.binary.is_some()).count();
    }

    /// None yet; the first gets the number `next`.
    #[cfg(test)]
    pub(super) fn from_next(next: u32) -> Self {
        Self {
            next,
            ..Self::default()
        }
    }

    /// The files that `trace` leads through, by their numbers.
    pub(super) fn files_in(&self, trace: &Trace) -> HashMap<u32, File> {
        trace
            .addresses
            .iter()
            .filter_map(|address| match *address {
                Address::File { file, .. } => Some((file, self.all.get(&file)?.clone())),
                Address::Anonymous { .. } => None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_64_bit_program_is_told_from_made_code() {
        let place = tempfile::tempdir().unwrap();
        let mut exe = std::fs::read("/proc/self/exe").unwrap();
        exe.truncate(4096);
        // EI_CLASS of ELFCLASS32 (elf(5)).
        exe[4] = 1;
        for content in [exe.as_slice(), &[b'#'; 4096]] {
            let path = place.path().join("a");
            std::fs::write(&path, content).unwrap();
            let key = FileKey::from_stat(&rustix::fs::stat(&path).unwrap());
            let read = Files::default().get(key, b"a", || Some(std::fs::File::open(&path).unwrap().into()));
            assert_eq!(read.err(), Some(Why::NotElf64), "{:?}", &content[..5]);
        }
    }

    #[test]
    fn no_more_are_open_than_may_be() {
        let place = tempfile::tempdir().unwrap();
        let exe = std::fs::read("/proc/self/exe").unwrap();
        let mut files = Files::default();
        let mut keys = Vec::new();
        for number in 0..OPEN_MAX + 10 {
            let path = place.path().join(number.to_string());
            // The headers of a program are one.
            std::fs::write(&path, &exe[..4096]).unwrap();
            let key = FileKey::from_stat(&rustix::fs::stat(&path).unwrap());
            let opened = files.get(key, b"a", || Some(std::fs::File::open(&path).unwrap().into()));
            assert_eq!(opened.unwrap().number as usize, number);
            keys.push((key, path));
        }
        let open = |files: &Files| files.all.values().filter(|file| file.binary.is_some()).count();
        assert_eq!((open(&files), files.open), (OPEN_MAX, OPEN_MAX));
        // One that is open is not opened again; one that was closed is, and has its old number.
        let last = keys.len() - 1;
        assert!(files.get(keys[last].0, b"a", || None).is_ok());
        let closed = files.all.values().position(|file| file.binary.is_none()).unwrap();
        assert!(files.get(keys[closed].0, b"a", || None).is_err());
        let again = files.get(keys[closed].0, b"a", || {
            Some(std::fs::File::open(&keys[closed].1).unwrap().into())
        });
        assert_eq!(again.unwrap().number as usize, closed);
        assert_eq!((open(&files), files.open), (OPEN_MAX, OPEN_MAX));
    }

    #[test]
    fn files_of_programs_that_come_and_go_are_forgotten() {
        let place = tempfile::tempdir().unwrap();
        let exe = std::fs::read("/proc/self/exe").unwrap();
        let path = place.path().join("a");
        std::fs::write(&path, &exe[..4096]).unwrap();
        let stat = rustix::fs::stat(&path).unwrap();
        let open = || Some(std::fs::File::open(&path).unwrap().into());
        let mut files = Files::default();
        // A scan for each hundred new files; a stack that is kept leads through the first.
        let kept = HashSet::from_iter([0]);
        for number in 0..i64::try_from(NAMES_MAX).unwrap() + 1000 {
            let mut other = stat;
            other.st_size = number;
            let key = FileKey::from_stat(&other);
            assert!(
                files
                    .get(key, b"a", open)
                    .is_ok_and(|file| i64::from(file.number) == number)
            );
            if number % 100 == 99 {
                files.retain(&kept);
            }
        }
        for _ in 0..2 {
            files.retain(&kept);
        }
        assert_eq!(files.all.keys().collect::<Vec<_>>(), [&0]);
        assert_eq!((files.numbers.len(), files.open <= 1), (1, true));
    }
}
