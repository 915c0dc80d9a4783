//! Programs on other tracepoints: how connections end, who owns them, and which user stacks open them.

use anyhow::{Context, Result, bail};
use aya::programs::Program;
use tcpwatch_common::names;
use tcpwatch_common::params::ABSENT;

use super::feature::FeatureKind;
use super::kernel::{Hook, Kernel};
use super::prepare::Prepared;
use super::refusal::refusal;
use crate::sys::tracefs;

/// The programs that the kernel refuses, and why.
#[derive(Debug, Default)]
pub(super) struct Refused(Vec<(&'static str, String)>);

impl Refused {
    /// Why the kernel refuses `program`; `None` where it took it, or was not asked.
    pub(super) fn why(&self, program: &str) -> Option<String> {
        self.0
            .iter()
            .find(|(name, _)| *name == program)
            .map(|(_, why)| why.clone())
    }
}

impl Prepared<'_> {
    /// Attaches the programs that show how connections end and who owns them. Returns those that the kernel refuses: what they
    /// would show is unknown.
    pub(super) fn attach_aux_programs(&mut self, hook: Hook) -> Refused {
        let needs = self.request().needs;
        let (sock_known, tasks) = (self.layouts().sock.known != 0, self.layouts().task.known != 0);
        let reset = *self.reset();
        let typed = hook == Hook::TpBtf;
        let connections = needs.connection_data();
        let owners = needs.owners;
        let measures = needs.latency.is_some();
        // A classic program does not run where no offsets are known.
        let known = sock_known && (typed || reset.send_skaddr != 0);
        let accepts = (owners || measures) && tasks && reset.accept_ret != ABSENT;
        if (owners || measures) && tasks && !accepts {
            log::warn!(
                "the processes that accept connections are unknown: the tracepoint sys_exit_accept4 is not as expected"
            );
        }
        let has = |fields: &[u32]| fields.iter().all(|&offset| offset != ABSENT);
        let programs = [
            (known && typed, names::PROG_SEND_RESET_TP_BTF, "tcp", "tcp_send_reset"),
            (
                known && typed,
                names::PROG_RECEIVE_RESET_TP_BTF,
                "tcp",
                "tcp_receive_reset",
            ),
            (
                typed && connections,
                names::PROG_DESTROY_TP_BTF,
                "tcp",
                "tcp_destroy_sock",
            ),
            (
                typed && owners && tasks,
                names::PROG_RENAME_TP_BTF,
                "task",
                "task_rename",
            ),
            (
                !typed && owners && tasks && has(&[reset.rename_pid, reset.rename_comm]),
                names::PROG_RENAME_TRACEPOINT,
                "task",
                "task_rename",
            ),
            (
                known && !typed,
                names::PROG_SEND_RESET_TRACEPOINT,
                "tcp",
                "tcp_send_reset",
            ),
            (
                known && !typed,
                names::PROG_RECEIVE_RESET_TRACEPOINT,
                "tcp",
                "tcp_receive_reset",
            ),
            (
                !typed && reset.destroy_skaddr != 0,
                names::PROG_DESTROY_TRACEPOINT,
                "tcp",
                "tcp_destroy_sock",
            ),
            (
                measures && typed,
                names::PROG_RETRANSMIT_TP_BTF,
                "tcp",
                "tcp_retransmit_skb",
            ),
            (
                measures && typed,
                names::PROG_SYNACK_TP_BTF,
                "tcp",
                "tcp_retransmit_synack",
            ),
            (
                measures && known && !typed && has(&[reset.retransmit_skaddr]),
                names::PROG_RETRANSMIT_TRACEPOINT,
                "tcp",
                "tcp_retransmit_skb",
            ),
            (
                measures && known && !typed && has(&[reset.synack_skaddr, reset.synack_req]),
                names::PROG_SYNACK_TRACEPOINT,
                "tcp",
                "tcp_retransmit_synack",
            ),
            (accepts, names::PROG_ACCEPTED, "syscalls", "sys_exit_accept"),
            (accepts, names::PROG_ACCEPTED, "syscalls", "sys_exit_accept4"),
            (owners && tasks, names::PROG_EXITED, "sched", "sched_process_exit"),
        ];
        let resets = match hook {
            Hook::TpBtf => [names::PROG_SEND_RESET_TP_BTF, names::PROG_RECEIVE_RESET_TP_BTF],
            Hook::Tracepoint => [names::PROG_SEND_RESET_TRACEPOINT, names::PROG_RECEIVE_RESET_TRACEPOINT],
        };
        let mut refused = Refused::default();
        for (_, program, category, name) in programs.into_iter().filter(|(wanted, ..)| *wanted) {
            if let Err(why) = self.kernel.attach_one(program, category, name) {
                log::warn!("cannot watch {category}:{name}, so some endings or owners are unknown: {why:#}");
                refused.0.push((program, format!("{why:#}")));
            }
        }
        let unknown = (!known).then(|| "the offsets of socket fields are unknown".to_owned());
        let off = unknown.or_else(|| resets.iter().find_map(|name| refused.why(name)));
        self.kernel.resets = off.is_none().then_some(resets);
        let has_reasons = if typed {
            reset.typed_reason != 0
        } else {
            reset.send_reason != ABSENT
        };
        let features = &mut self.kernel.features;
        features.note(FeatureKind::Resets, off.clone());
        features.note(
            FeatureKind::ResetReasons,
            off.or_else(|| (!has_reasons).then(|| "tcp:tcp_send_reset has no field reason".to_owned())),
        );
        if owners || measures {
            let unknown = (!accepts).then(|| {
                let of = if tasks { "sys_exit_accept4" } else { "tasks" };
                format!("the fields of {of} are unknown")
            });
            features.note(
                FeatureKind::AcceptOwners,
                unknown.or_else(|| refused.why(names::PROG_ACCEPTED)),
            );
        }
        refused
    }

    /// Attaches the programs that copy user stacks.
    pub(super) fn attach_stacks(&mut self) -> Result<()> {
        let (task, reset) = (self.layouts().task, *self.reset());
        let fields = [
            task.start_boottime,
            task.self_exec_id,
            task.stack_pointer,
            reset.accept_ret,
        ];
        if task.known == 0 || fields.contains(&ABSENT) {
            bail!("the kernel does not tell where it keeps a task's registers, or what accept() returned");
        }
        for (program, category, name) in [
            (names::PROG_STACK_ACCEPTED, "syscalls", "sys_exit_accept"),
            (names::PROG_STACK_ACCEPTED, "syscalls", "sys_exit_accept4"),
            (names::PROG_STACK_OPENED, tracefs::CATEGORY, tracefs::NAME),
        ] {
            self.kernel.attach_one(program, category, name)?;
        }
        Ok(())
    }
}

impl Kernel {
    /// Loads `program` where it is not loaded yet, and attaches it to the tracepoint.
    fn attach_one(&mut self, program: &str, category: &str, name: &str) -> Result<()> {
        match self
            .ebpf
            .program_mut(program)
            .context("the BPF object has no such program")?
        {
            Program::BtfTracePoint(found) => {
                let btf = self.btf.as_ref().context("no BTF")?;
                found.load(name, btf).map_err(|error| refusal(program, error))?;
                found.attach()?;
            }
            Program::TracePoint(found) => {
                if found.fd().is_err() {
                    found.load().map_err(|error| refusal(program, error))?;
                }
                found.attach(category, name)?;
            }
            _ => bail!("the BPF object's {program} is no tracepoint program"),
        }
        Ok(())
    }
}
