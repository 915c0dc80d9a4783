//! The files that processes run, each opened once.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use hashbrown::HashMap;

use super::binary::{Binary, FileKey};
use crate::model::stacks::{Address, Trace, Why};

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
            log::debug!("a mapped file is no program: {why:#}");
            Why::Anonymous
        })?;
        if self.open >= OPEN_MAX {
            // The first met is likely the least used now; whoever has it still keeps it.
            if let Some(file) = self.all.iter_mut().find(|file| file.binary.is_some()) {
                file.binary = None;
                self.open -= 1;
            }
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

    /// The file of this number, where it is open.
    fn binary(&self, number: u32) -> Option<Arc<Binary>> {
        self.all.get(number as usize)?.binary.clone()
    }

    /// The files that `trace` leads through, by their numbers.
    pub(super) fn of(&self, trace: &Trace) -> HashMap<u32, File> {
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
