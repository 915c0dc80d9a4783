//! The files that processes run, each opened once.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use hashbrown::HashMap;

use super::binary::{Binary, FileKey};
use crate::input::stacks::{Address, Trace, Why};

/// Files that are open at once: a process may have a thousand descriptors by default.
const OPEN_MAX: usize = 256;
/// Files whose names are kept.
const NAMES_MAX: usize = 16_384;

/// The files met so far.
#[derive(Default)]
pub(super) struct Files {
    numbers: HashMap<FileKey, u32>,
    all: Vec<File>,
    open: usize,
    /// The one that was closed last.
    hand: usize,
}

/// A file that a process runs.
#[derive(Clone)]
pub(super) struct File {
    /// Without its path.
    pub(super) name: Vec<u8>,
    /// `None` where it made room for others.
    pub(super) binary: Option<Arc<Binary>>,
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
        let number = known.map_or_else(|| u32::try_from(self.all.len()), Ok);
        let number = number.map_err(|_| Why::Unreadable)?;
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
            self.numbers.insert(key, number);
            self.all.push(File {
                name: name.to_vec(),
                binary: None,
            });
        }
        if let Some(file) = self.all.get_mut(number as usize) {
            file.binary = Some(Arc::clone(&binary));
        }
        Ok(binary)
    }

    /// Closes one, unless somebody has it in use. All have their turn, so that one that is used by all is not closed each time.
    fn close_one(&mut self) {
        for _ in 0..self.all.len() {
            self.hand = (self.hand + 1) % self.all.len();
            if self.all[self.hand].binary.take().is_some() {
                self.open -= 1;
                return;
            }
        }
    }

    /// The file of this number, where it is open.
    pub(super) fn binary(&self, number: u32) -> Option<Arc<Binary>> {
        self.all.get(number as usize)?.binary.clone()
    }

    /// The files that `trace` leads through, by their numbers.
    pub(super) fn files_in(&self, trace: &Trace) -> HashMap<u32, File> {
        trace
            .addresses
            .iter()
            .filter_map(|address| match *address {
                Address::File { file, .. } => Some((file, self.all.get(file as usize)?.clone())),
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
        let open = |files: &Files| files.all.iter().filter(|file| file.binary.is_some()).count();
        assert_eq!((open(&files), files.open), (OPEN_MAX, OPEN_MAX));
        // One that is open is not opened again; one that was closed is, and has its old number.
        let last = keys.len() - 1;
        assert!(files.get(keys[last].0, b"a", || None).is_ok());
        let closed = files.all.iter().position(|file| file.binary.is_none()).unwrap();
        assert!(files.get(keys[closed].0, b"a", || None).is_err());
        let again = files.get(keys[closed].0, b"a", || {
            Some(std::fs::File::open(&keys[closed].1).unwrap().into())
        });
        assert_eq!(again.unwrap().number as usize, closed);
        assert_eq!((open(&files), files.open), (OPEN_MAX, OPEN_MAX));
    }
}
