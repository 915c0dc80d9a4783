//! Walks of every TCP socket of a namespace inside the kernel (`iter/tcp`): to seed the live counts, or to count.

use std::io;

use anyhow::{Context, Result};
use aya::maps::Array;
use aya::programs::Iter;
use tcpwatch_common::ledger::{PASS_WORDS, Pass, STATES};
use tcpwatch_common::{Ledger, names};

use super::{Kernel, Options, object};
use crate::model::filter::Filter;
use crate::sys::netns::Namespace;

/// Entry of the map of passes for plain counts; 0 and 1 are the banks of marks.
const COUNT: u32 = 2;

/// Counts the sockets in each of `namespaces` inside the kernel, by state and kind, and nothing else.
///
/// # Errors
/// One line: why the kernel refuses, or a namespace cannot be entered.
pub fn count(filter: &Filter, namespaces: &[Namespace]) -> Result<Pass> {
    let mut kernel = Kernel::load(&Options {
        object: object::EMBEDDED,
        hook: None,
        filter: &filter.for_kernel(0).map_err(anyhow::Error::msg)?,
        ports: &filter.port_words(),
        ring_bytes: None,
    })?;
    namespaces
        .iter()
        .try_for_each(|namespace| namespace.run(|| kernel.walk(names::PROG_ITER_COUNT)))?;
    kernel.pass(COUNT)
}

impl Kernel {
    /// Marks the sockets of the namespace this thread is in, for the live counts.
    ///
    /// # Errors
    /// The kernel refuses the iterator.
    pub fn mark_sockets(&mut self) -> Result<()> {
        self.walk(names::PROG_ITER_MARK)
    }

    /// Full sockets in each state now, by the kernel's state number, as marked and as moved since; and how many of them
    /// took no mark, so that the counts may be off by as many.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn live(&self, ledger: &Ledger) -> Result<([i64; STATES], u64)> {
        let mut live = ledger.sockets[self.epoch as usize & 1];
        let pass = self.pass(self.epoch & 1)?;
        for ((state, marked), before) in live.iter_mut().zip(pass.full).zip(self.before_epoch) {
            *state = state.wrapping_add_unsigned(marked).wrapping_sub(before);
        }
        Ok((live, pass.unmarked + ledger.unmarked))
    }

    /// Starts counting the sockets anew: all marks are void, and the count is complete when every namespace is marked.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn start_epoch(&mut self) -> Result<()> {
        let next = self.epoch.wrapping_add(1);
        // Nothing moves the counts of the idle bank: what they are now, they will have been at the start.
        self.before_epoch = self.ledger().sockets[next as usize & 1];
        let passes = self
            .ebpf
            .map_mut(names::MAP_PASSES)
            .context("the BPF object has no passes")?;
        let mut passes: Array<_, [u64; PASS_WORDS]> = Array::try_from(passes)?;
        passes.set(next & 1, [0; PASS_WORDS], 0)?;
        let epoch = self
            .ebpf
            .map_mut(names::MAP_EPOCH)
            .context("the BPF object has no epoch")?;
        Array::<_, u32>::try_from(epoch)?.set(0, next, 0)?;
        self.epoch = next;
        Ok(())
    }

    /// Runs `program` over every socket.
    fn walk(&mut self, program: &str) -> Result<()> {
        let btf = self.btf.as_ref().context("iter/tcp needs the kernel's BTF")?;
        let iter: &mut Iter = self
            .ebpf
            .program_mut(program)
            .context("the BPF object has no such iterator")?
            .try_into()?;
        if iter.fd().is_err() {
            iter.load("tcp", btf)
                .map_err(|error| super::load::refused(program, error))?;
        }
        let link = iter.attach().context("the kernel refuses iter/tcp")?;
        // The walk sees the namespace of the task that makes this file.
        let mut file = iter
            .take_link(link)?
            .into_file()
            .context("the kernel refuses iter/tcp")?;
        io::copy(&mut file, &mut io::sink()).context("a walk of the sockets failed")?;
        Ok(())
    }

    /// An entry of the map of passes.
    fn pass(&self, index: u32) -> Result<Pass> {
        let map = self
            .ebpf
            .map(names::MAP_PASSES)
            .context("the BPF object has no passes")?;
        let passes: Array<_, [u64; PASS_WORDS]> = Array::try_from(map)?;
        Ok(bytemuck::cast(passes.get(&index, 0)?))
    }
}
