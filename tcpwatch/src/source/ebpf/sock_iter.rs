//! Walks of every TCP socket of a namespace inside the kernel (`iter/tcp`): to seed the live counts, or to count.

use std::io::{ErrorKind, Read};

use anyhow::{Context, Result};
use aya::maps::Array;
use aya::programs::Iter;
use tcpwatch_common::ledger::{Count, PASS_WORDS, PLAIN_PASS, Pass, STATES};
use tcpwatch_common::{Ledger, names};

use super::refusal::refusal;
use super::{Kernel, KernelNeeds, Request, object};
use crate::model::filter::Filter;
use crate::sys::netns::Namespace;

/// Counts the sockets in each of `namespaces` inside the kernel, by state and kind, and nothing else.
///
/// # Errors
/// One line: why the kernel refuses, or a namespace cannot be entered.
pub fn count(filter: &Filter, namespaces: &[Namespace]) -> Result<Pass> {
    let mut kernel = Kernel::for_walks(&Request {
        object: object::EMBEDDED,
        filter: &filter.for_kernel(0).map_err(anyhow::Error::msg)?,
        ports: &filter.port_words(),
        needs: KernelNeeds::default(),
        ring_bytes: 0,
        stacks_ring_bytes: 0,
    })?;
    namespaces
        .iter()
        .try_for_each(|namespace| namespace.run(|| kernel.walk(names::PROG_ITER_COUNT)))?;
    let counted = kernel.pass(PLAIN_PASS);
    // To take the kernel's type information apart again takes longer than many a count, and the process ends soon.
    std::mem::forget(kernel);
    counted
}

impl Kernel {
    /// Full sockets in each state now, by the kernel's state number; and how many of them took no mark, by which the counts
    /// may be off.
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

    /// Counts the sockets of `namespaces` anew: marks each, after which transitions alone keep the count.
    ///
    /// # Errors
    /// The kernel refuses the iterator, or a namespace cannot be entered.
    pub fn count_anew(&mut self, namespaces: &[Namespace]) -> Result<()> {
        let next = self.count.next();
        // Nothing moves the idle bank: what it holds now, it will have held at the start.
        self.before_count = self.ledger().sockets[next.bank()];
        self.set_pass(bank(next), &bytemuck::Zeroable::zeroed())?;
        self.keep(next)?;
        self.mark(namespaces)?;
        self.keep(next.complete())
    }

    /// Marks the sockets of `namespaces` that are not marked yet: those whose opening waits for the filter, which a walk can
    /// decide, and those that took no mark before.
    ///
    /// # Errors
    /// As [`Kernel::count_anew`].
    pub fn mark_more(&mut self, namespaces: &[Namespace]) -> Result<()> {
        let mut pass = self.pass(bank(self.count))?;
        pass.refused = [0; STATES];
        self.set_pass(bank(self.count), &pass)?;
        self.mark(namespaces)
    }

    fn mark(&mut self, namespaces: &[Namespace]) -> Result<()> {
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
            iter.load("tcp", btf).map_err(|error| refusal(program, error))?;
        }
        let link = iter.attach().context("the kernel refuses iter/tcp")?;
        // The walk sees the namespace of the task that makes this file.
        let mut file = iter
            .take_link(link)?
            .into_file()
            .context("the kernel refuses iter/tcp")?;
        let mut nothing = [0; 64];
        loop {
            match file.read(&mut nothing) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                // After a million sockets the kernel wants to be asked again (`MAX_ITER_OBJECTS`, kernel/bpf/bpf_iter.c).
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error).context("a walk of the sockets failed"),
            }
        }
    }

    /// Writes an entry of the map of passes; no walk may be under way.
    fn set_pass(&mut self, index: u32, pass: &Pass) -> Result<()> {
        let map = self
            .ebpf
            .map_mut(names::MAP_PASSES)
            .context("the BPF object has no passes")?;
        let words: [u64; PASS_WORDS] = bytemuck::cast(*pass);
        Ok(Array::<_, [u64; PASS_WORDS]>::try_from(map)?.set(index, words, 0)?)
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

/// The entry of the map of passes that belongs to `count`.
fn bank(count: Count) -> u32 {
    u32::from(count.bank() == 1)
}
