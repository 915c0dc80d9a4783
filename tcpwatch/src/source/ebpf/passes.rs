//! Walks of every TCP socket of a namespace inside the kernel (`iter/tcp`): to seed the live counts, or to count.

use std::io;

use anyhow::{Context, Result};
use aya::maps::Array;
use aya::programs::Iter;
use tcpwatch_common::ledger::{Count, PASS_WORDS, Pass, STATES};
use tcpwatch_common::{Ledger, names};

use super::{Kernel, Options, object};
use crate::model::filter::Filter;
use crate::sys::netns::Namespace;

/// Entry of the map of passes for plain counts; 0 and 1 are the banks of marks.
const PLAIN: u32 = 2;

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
    kernel.pass(PLAIN)
}

impl Kernel {
    /// Full sockets in each state now, by the kernel's state number; and by how many the counts may be off, sockets having
    /// taken no mark.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn live(&self, ledger: &Ledger) -> Result<([i64; STATES], u64)> {
        let bank = self.count.bank();
        let mut live = ledger.sockets[bank];
        let pass = self.pass(u32::from(bank == 1))?;
        for ((state, marked), before) in live.iter_mut().zip(pass.full).zip(self.before_count) {
            *state = state.wrapping_add_unsigned(marked).wrapping_sub(before);
        }
        Ok((live, pass.unmarked + ledger.unmarked))
    }

    /// Counts the sockets of `namespaces` anew: marks each, after which transitions alone keep the count.
    ///
    /// # Errors
    /// The kernel refuses the iterator, or a namespace cannot be entered.
    pub fn count_anew(&mut self, namespaces: &[Namespace]) -> Result<()> {
        let next = self.count.next();
        let bank = u32::from(next.bank() == 1);
        // Nothing moves the idle bank: what it holds now, it will have held at the start.
        self.before_count = self.ledger().sockets[next.bank()];
        let passes = self
            .ebpf
            .map_mut(names::MAP_PASSES)
            .context("the BPF object has no passes")?;
        Array::<_, [u64; PASS_WORDS]>::try_from(passes)?.set(bank, [0; PASS_WORDS], 0)?;
        self.keep(next)?;
        self.mark_more(namespaces)?;
        self.keep(next.complete())
    }

    /// Marks the sockets of `namespaces` that are not marked yet: those whose opening waits for the filter, which a walk can
    /// decide.
    ///
    /// # Errors
    /// As [`Kernel::count_anew`].
    pub fn mark_more(&mut self, namespaces: &[Namespace]) -> Result<()> {
        namespaces
            .iter()
            .try_for_each(|namespace| namespace.run(|| self.walk(names::PROG_ITER_MARK)))
    }

    /// Tells the kernel side which count to keep.
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
