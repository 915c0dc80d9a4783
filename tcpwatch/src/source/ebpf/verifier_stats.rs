//! Reads the verifier's statistics of each program (processed instructions, stack), for `cargo xtask kernels --stats`.

use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail};
use aya::programs::{Program, ProgramError};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tcpwatch_common::filter::CIDR_MAX;
use tcpwatch_common::{Filter, names};

use super::chain::Suffix;
use super::kernel::{Hook, Kernel};
use super::prepare::{Prepared, Request, prepared};
use super::{KernelNeeds, LatencyGroups, object};
use crate::input::latency::LatencyBy;
use crate::sys::tracefs;

/// The verifier's statistics of one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramStats {
    /// Name of the program.
    pub name: String,
    /// Instructions processed, over all paths; the kernel allows 1,000,000.
    pub instructions: u64,
    /// Stack of the program and of each function in it, bytes; the kernel allows 512 for any chain of calls.
    pub stack: Vec<u32>,
}

/// Loads every program of every hook of the running kernel, with all needs and filters, and reads the verifier's statistics.
/// Also loads them with fewer needs, where the entry program does the work of `state`.
///
/// # Errors
/// The kernel refuses a program, or its log has no statistics.
pub fn verifier_stats() -> Result<Vec<ProgramStats>> {
    let namespace_and_family = Filter {
        family: 2,
        netns: 1,
        ..Filter::ALL
    };
    let all_filters = Filter {
        by_lport: 1,
        by_rport: 1,
        by_port: 1,
        locals: u32::try_from(CIDR_MAX)?,
        remotes: u32::try_from(CIDR_MAX)?,
        ..namespace_and_family
    };
    let mut all = Vec::new();
    // By remote address the key has addresses.
    for (by, owners, filter) in [
        (LatencyBy::All, true, &all_filters),
        (LatencyBy::Remote, true, &all_filters),
        (LatencyBy::Remote, false, &namespace_and_family),
    ] {
        let request = Request {
            object: object::EMBEDDED,
            filter,
            ports: &[],
            needs: KernelNeeds {
                transitions: true,
                connections: true,
                openings: true,
                owners,
                latency: Some(LatencyGroups { by, owners }),
                stacks: true,
                namespaces: true,
            },
            ring_bytes: 4096,
            stacks_ring_bytes: 4096,
        };
        for hook in [Hook::TpBtf, Hook::Tracepoint] {
            prepared(&request, hook, |prepared| add_programs(prepared, hook, &mut all))?;
        }
    }
    Ok(all)
}

/// Adds the statistics of the programs of `hook`, and keeps the worst of each program.
fn add_programs(mut prepared: Prepared<'_>, hook: Hook, all: &mut Vec<ProgramStats>) -> Result<()> {
    let suffixes: &[Suffix] = match hook {
        Hook::TpBtf => &[Suffix::Typed, Suffix::TypedCopy],
        Hook::Tracepoint => &[Suffix::Classic],
    };
    let stages = suffixes.iter().flat_map(|suffix| suffix.programs());
    let programs = stages.map(|name| (name, tracefs::NAME));
    let aux = prepared.aux_programs(hook);
    let aux = aux.into_iter().map(|aux| (aux.program.to_owned(), aux.tracepoint));
    let mut programs: Vec<_> = programs.chain(aux).collect();
    programs.push((names::PROG_STACK_ACCEPTED.to_owned(), "sys_exit_accept"));
    programs.push((names::PROG_STACK_OPENED.to_owned(), tracefs::NAME));
    if hook == Hook::TpBtf {
        programs.push((names::PROG_ITER_COUNT.to_owned(), "tcp"));
        if prepared.helpers().marks {
            programs.push((names::PROG_ITER_MARK.to_owned(), "tcp"));
        }
    }
    for (name, tracepoint) in programs {
        let found = stats(&mut prepared.kernel, &name, tracepoint)?;
        match all.iter_mut().find(|stats| stats.name == found.name) {
            Some(stats) => {
                stats.instructions = stats.instructions.max(found.instructions);
                if found.stack.iter().sum::<u32>() > stats.stack.iter().sum() {
                    stats.stack = found.stack;
                }
            }
            None => all.push(found),
        }
    }
    Ok(())
}

/// The statistics of the program `name`.
///
/// aya keeps the log only of a refused program. So this lowers the descriptor limit: the kernel verifies the program, and then
/// fails with EMFILE.
fn stats(kernel: &mut Kernel, name: &str, tracepoint: &str) -> Result<ProgramStats> {
    let limit = getrlimit(Resource::Nofile);
    let next = std::fs::File::open("/dev/null").context("cannot open a file")?;
    let next_free = u64::try_from(next.as_raw_fd())?;
    drop(next);
    let set = |current| setrlimit(Resource::Nofile, Rlimit { current, ..limit });
    set(Some(next_free)).context("cannot lower the limit of open files")?;
    let loaded = load(kernel, name, tracepoint);
    set(limit.current).context("cannot restore the limit of open files")?;
    match loaded? {
        Err(ProgramError::LoadError { io_error, verifier_log }) => {
            let log = verifier_log.to_string();
            // Any other error is a refusal. Its log also has statistics.
            let verified = io_error.raw_os_error() == Some(Errno::MFILE.raw_os_error());
            parse(name, &log)
                .filter(|_| verified)
                .with_context(|| format!("the kernel refuses the BPF program {name}: {io_error}: {log}"))
        }
        Err(other) => Err(other).with_context(|| format!("cannot load the BPF program {name}")),
        Ok(()) => bail!("the kernel loaded {name} without a free descriptor"),
    }
}

/// Loads the program `name` for `tracepoint`, or for an iterator.
fn load(kernel: &mut Kernel, name: &str, tracepoint: &str) -> Result<Result<(), ProgramError>> {
    let btf = kernel.btf.clone();
    let program = kernel
        .ebpf
        .program_mut(name)
        .with_context(|| format!("the BPF object has no program {name}"))?;
    Ok(match (program, btf) {
        (Program::BtfTracePoint(program), Some(btf)) => program.load(tracepoint, &btf),
        (Program::Iter(program), Some(btf)) => program.load(tracepoint, &btf),
        (Program::TracePoint(program), _) => program.load(),
        _ => bail!("the BPF object's {name} has an unexpected program type"),
    })
}

/// Parses `stack depth 120+80` and `processed 1234 insns (limit 1000000)`; `None` if the log lacks one of them.
fn parse(name: &str, log: &str) -> Option<ProgramStats> {
    let line = |start: &str| log.lines().rev().find_map(|line| line.trim().strip_prefix(start));
    // Since Linux 7.3 the line has only the deepest chain.
    let stack = line("stack depth ")?;
    let stack = stack.strip_prefix("max ").unwrap_or(stack);
    let stack = stack
        .split_whitespace()
        .next()?
        .split('+')
        .map(|depth| depth.parse().ok());
    Some(ProgramStats {
        name: name.to_owned(),
        instructions: line("processed ")?.split_whitespace().next()?.parse().ok()?,
        stack: stack.collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistics_are_read_from_the_log() {
        let log = "verification time 41 usec\nstack depth 120+80\nprocessed 1234 insns (limit 1000000) max_states_per_insn 0\n";
        let stats = parse("state_typed", log).unwrap();
        assert_eq!((stats.instructions, stats.stack), (1234, vec![120, 80]));
        let log = log.replace("depth 120+80", "depth max 200");
        assert_eq!(parse("state_typed", &log).unwrap().stack, [200]);
        assert_eq!(parse("state_typed", "stack depth 8\nR1 is bad\n"), None);
        assert_eq!(parse("state_typed", ""), None);
    }
}
