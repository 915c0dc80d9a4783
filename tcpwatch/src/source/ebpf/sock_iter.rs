//! Walks all TCP sockets of a namespace inside the kernel (`iter/tcp`), to mark them for the live counts or to count them.

use std::io::{ErrorKind, Read};

use anyhow::{Context, Result};
use aya::maps::Array;
use aya::programs::Iter;
use hashbrown::HashMap;
use tcpwatch_common::ledger::{Count, PASS_WORDS, PLAIN_PASS, Pass, STATES};
use tcpwatch_common::{Ledger, names};

use super::refusal::refusal;
use super::{Kernel, KernelNeeds, Request, object};
use crate::clock;
use crate::input::netns_selector::NetnsSelector;
use crate::model::filter::Filter;
use crate::source::namespaces::WatchedNamespaces;
use crate::sys::netns::{Namespace, run_in_each, unless_left_out};

/// The namespaces that a count has not reached yet, by inode number, with the number of full sockets in each.
pub type Unwalked = HashMap<u32, u64>;

/// Counts the sockets in each of `namespaces`, which `selector` selects, inside the kernel, by state and kind.
///
/// # Errors
/// One line: why the kernel refuses, or a namespace cannot be entered.
pub fn count(filter: &Filter, namespaces: &[Namespace], selector: &NetnsSelector) -> Result<Pass> {
    let mut kernel = Kernel::for_walks(&Request {
        object: object::EMBEDDED,
        filter: &filter.for_kernel(0).map_err(anyhow::Error::msg)?,
        ports: &filter.port_words(),
        needs: KernelNeeds::default(),
        ring_bytes: 0,
        stacks_ring_bytes: 0,
    })?;
    let walks = run_in_each(namespaces, |_| kernel.walk(names::PROG_ITER_COUNT))?;
    for walk in walks {
        unless_left_out(walk, selector)?;
    }
    let counted = kernel.pass(PLAIN_PASS);
    // Dropping the kernel's type information takes longer than the count, and the process ends soon anyway.
    std::mem::forget(kernel);
    counted
}

impl Kernel {
    /// The current full sockets in each state, by the kernel's state number, and the number of sockets without a mark. The
    /// counts may be wrong by this number.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn live(&self, ledger: &Ledger) -> Result<([i64; STATES], u64)> {
        let mut live = ledger.sockets[self.count.bank()];
        let pass = self.pass(bank(self.count))?;
        for (state, cell) in live.iter_mut().enumerate() {
            *cell = cell
                .wrapping_sub(self.before_count[state])
                .wrapping_add_unsigned(pass.full[state])
                .wrapping_add_unsigned(pass.refused[state]);
        }
        Ok((live, pass.refused.iter().sum()))
    }

    /// Counts the sockets of `namespaces` again: marks each one, until `deadline_ns` (`CLOCK_MONOTONIC`). Returns the namespaces that
    /// are not walked by then; [`Kernel::count_more`] walks them. Once there are none, transitions keep the count.
    ///
    /// # Errors
    /// The kernel refuses the iterator, or a namespace cannot be entered.
    pub fn count_anew(&mut self, namespaces: &mut WatchedNamespaces, deadline_ns: u64) -> Result<Unwalked> {
        // A process that has given up its capabilities cannot load a program later.
        self.load_iter(names::PROG_ITER_MARK)?;
        let next = self.count.next();
        // Nothing changes the idle bank, so its current values are the values at the start.
        self.before_count = self.ledger().sockets[next.bank()];
        self.set_pass(bank(next), &bytemuck::Zeroable::zeroed())?;
        self.keep(next)?;
        self.count_more(namespaces, None, deadline_ns)
    }

    /// Walks the namespaces that are `left` of a count, or all; else as [`Kernel::count_anew`].
    ///
    /// # Errors
    /// As [`Kernel::count_anew`].
    pub fn count_more(
        &mut self,
        namespaces: &mut WatchedNamespaces,
        left: Option<&Unwalked>,
        deadline_ns: u64,
    ) -> Result<Unwalked> {
        let is_left = |namespace: &Namespace| left.is_none_or(|left| left.contains_key(&namespace.inode));
        let left = namespaces.read_some(is_left, |reader| {
            let sockets = reader.full_sockets(reader.sockstat()?)?;
            if sockets == Some(0) {
                return Ok(None);
            }
            if clock::monotonic_ns() >= deadline_ns {
                return Ok(Some((reader.inode(), sockets.unwrap_or(0))));
            }
            self.walk(names::PROG_ITER_MARK).map(|()| None)
        })?;
        let left: Unwalked = left.into_iter().flatten().collect();
        if left.is_empty() {
            self.keep(self.count.complete())?;
        }
        Ok(left)
    }

    /// Marks the sockets of `namespaces` without a mark: sockets whose opening waits for the filter, and sockets that could not
    /// be marked before.
    ///
    /// # Errors
    /// As [`Kernel::count_anew`].
    pub fn mark_more(&mut self, namespaces: &mut WatchedNamespaces) -> Result<()> {
        let mut pass = self.pass(bank(self.count))?;
        pass.refused = [0; STATES];
        self.set_pass(bank(self.count), &pass)?;
        namespaces.read_each(|_| self.walk(names::PROG_ITER_MARK)).map(drop)
    }

    /// Sets the count that the BPF programs keep.
    fn keep(&mut self, count: Count) -> Result<()> {
        let map = self
            .ebpf
            .map_mut(names::MAP_COUNT)
            .context("the BPF object has no count")?;
        Array::<_, u32>::try_from(map)?.set(0, count.0, 0)?;
        self.count = count;
        Ok(())
    }

    /// Runs `program` over every socket.
    fn walk(&mut self, program: &str) -> Result<()> {
        let iter = self.load_iter(program)?;
        let link = iter.attach().context("the kernel refuses iter/tcp")?;
        // The walk uses the namespace of the task that opens this file.
        let mut file = iter
            .take_link(link)?
            .into_file()
            .context("the kernel refuses iter/tcp")?;
        let mut nothing = [0; 64];
        loop {
            match file.read(&mut nothing) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                // After a million sockets the kernel returns EAGAIN, and the read must be repeated (`MAX_ITER_OBJECTS`,
                // kernel/bpf/bpf_iter.c).
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error).context("cannot walk the sockets"),
            }
        }
    }

    /// Loads the iterator `program`, unless it is loaded.
    fn load_iter(&mut self, program: &str) -> Result<&mut Iter> {
        let btf = self.btf.as_ref().context("iter/tcp needs the kernel's BTF")?;
        let iter: &mut Iter = self
            .ebpf
            .program_mut(program)
            .context("the BPF object has no such iterator")?
            .try_into()?;
        if iter.fd().is_err() {
            iter.load("tcp", btf).map_err(|error| refusal(program, error))?;
        }
        Ok(iter)
    }

    /// Writes an entry of the map of passes. No walk may be running.
    fn set_pass(&mut self, index: u32, pass: &Pass) -> Result<()> {
        let map = self
            .ebpf
            .map_mut(names::MAP_PASSES)
            .context("the BPF object has no passes")?;
        let words: [u64; PASS_WORDS] = bytemuck::cast(*pass);
        Ok(Array::<_, [u64; PASS_WORDS]>::try_from(map)?.set(index, words, 0)?)
    }

    /// Reads an entry of the map of passes.
    fn pass(&self, index: u32) -> Result<Pass> {
        let map = self
            .ebpf
            .map(names::MAP_PASSES)
            .context("the BPF object has no passes")?;
        let passes: Array<_, [u64; PASS_WORDS]> = Array::try_from(map)?;
        Ok(bytemuck::cast(passes.get(&index, 0)?))
    }
}

/// The index of `count` in the map of passes.
fn bank(count: Count) -> u32 {
    u32::from(count.bank() == 1)
}
