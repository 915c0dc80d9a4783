//! The files that processes run: each has a number, and is open.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use rustix::fs::Stat;

use crate::input::stacks::{Address, Trace, Why};

/// Files that are open at once: a process may have a thousand descriptors by default.
const OPEN_MAX: usize = 256;
/// Files whose names are kept.
const NAMES_MAX: usize = 16_384;

/// What tells one file from another, and from what it was before somebody wrote it anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileKey {
    device: u64,
    inode: u64,
    size: i64,
    changed: (i64, u64),
}

impl FileKey {
    pub(super) fn from_stat(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            changed: (stat.st_mtime, stat.st_mtime_nsec),
        }
    }
}

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
    /// Its descriptor, by which it is there also when it was deleted; `None` where it made room for others.
    pub(super) open: Option<Arc<OwnedFd>>,
    /// Whether it was used since the last [`Files::retain`].
    is_used: bool,
}

impl Files {
    /// The number and the descriptor of the file `key`, called `name`; `open` opens it, where it is not open.
    pub(super) fn get(
        &mut self,
        key: FileKey,
        name: &[u8],
        open: impl FnOnce() -> Option<OwnedFd>,
    ) -> Result<(u32, Arc<OwnedFd>), Why> {
        let known = self.numbers.get(&key).copied();
        if let Some(number) = known
            && let Some(file) = self.descriptor(number)
        {
            return Ok((number, file));
        }
        if known.is_none() && self.all.len() >= NAMES_MAX {
            return Err(Why::Unreadable);
        }
        let number = known.unwrap_or(self.next);
        let opened = Arc::new(open().ok_or(Why::Unreadable)?);
        if self.open >= OPEN_MAX {
            self.close_one();
        }
        self.open += 1;
        if known.is_none() {
            self.next = self.next.checked_add(1).ok_or(Why::Unreadable)?;
            self.numbers.insert(key, number);
        }
        let file = self.all.entry(number).or_insert_with(|| File {
            name: name.to_vec(),
            open: None,
            is_used: true,
        });
        (file.open, file.is_used) = (Some(Arc::clone(&opened)), true);
        Ok((number, opened))
    }

    /// Closes one, unless somebody has it in use. All have their turn, so that one that is used by all is not closed each time.
    fn close_one(&mut self) {
        let is_open = |(number, file): (&u32, &File)| file.open.is_some().then_some(*number);
        let mut after = self.all.range(self.hand.saturating_add(1)..);
        let next = after.find_map(is_open).or_else(|| self.all.iter().find_map(is_open));
        if let Some(file) = next.and_then(|number| self.all.get_mut(&number)) {
            file.open = None;
            self.open -= 1;
        }
        self.hand = next.unwrap_or(0);
    }

    /// The descriptor of the file of this number, where it is open.
    pub(super) fn descriptor(&mut self, number: u32) -> Option<Arc<OwnedFd>> {
        let file = self.all.get_mut(&number)?;
        file.is_used = true;
        file.open.clone()
    }

    /// Forgets the files that were not used since the last call, except those with a number in `kept`.
    pub(super) fn retain(&mut self, kept: &HashSet<u32>) {
        self.all
            .retain(|number, file| std::mem::take(&mut file.is_used) || kept.contains(number));
        self.numbers.retain(|_, number| self.all.contains_key(number));
        self.open = self.all.values().filter(|file| file.open.is_some()).count();
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
    use std::path::Path;

    use super::*;

    fn open(path: &Path) -> OwnedFd {
        std::fs::File::open(path).unwrap().into()
    }

    #[test]
    fn no_more_are_open_than_may_be() {
        let place = tempfile::tempdir().unwrap();
        let mut files = Files::default();
        let mut keys = Vec::new();
        for number in 0..OPEN_MAX + 10 {
            let path = place.path().join(number.to_string());
            std::fs::write(&path, "a").unwrap();
            let key = FileKey::from_stat(&rustix::fs::stat(&path).unwrap());
            let opened = files.get(key, b"a", || Some(open(&path))).unwrap();
            assert_eq!(opened.0 as usize, number);
            keys.push((key, path));
        }
        let count = |files: &Files| files.all.values().filter(|file| file.open.is_some()).count();
        assert_eq!((count(&files), files.open), (OPEN_MAX, OPEN_MAX));
        // One that is open is not opened again; one that was closed is, and has its old number.
        let last = keys.len() - 1;
        assert!(files.get(keys[last].0, b"a", || None).is_ok());
        let closed = files.all.values().position(|file| file.open.is_none()).unwrap();
        assert!(files.get(keys[closed].0, b"a", || None).is_err());
        let again = files.get(keys[closed].0, b"a", || Some(open(&keys[closed].1)));
        assert_eq!(again.unwrap().0 as usize, closed);
        assert_eq!((count(&files), files.open), (OPEN_MAX, OPEN_MAX));
    }

    #[test]
    fn files_of_programs_that_come_and_go_are_forgotten() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a");
        std::fs::write(&path, "a").unwrap();
        let stat = rustix::fs::stat(&path).unwrap();
        let mut files = Files::default();
        // A scan for each hundred new files; a stack that is kept leads through the first.
        let kept = HashSet::from_iter([0]);
        for number in 0..i64::try_from(NAMES_MAX).unwrap() + 1000 {
            let mut other = stat;
            other.st_size = number;
            let got = files.get(FileKey::from_stat(&other), b"a", || Some(open(&path)));
            assert!(got.is_ok_and(|(got, _)| i64::from(got) == number));
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
