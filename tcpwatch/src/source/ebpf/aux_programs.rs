//! Programs on other tracepoints: how connections end, who owns them, and which user stacks open them.

use anyhow::{Context, Result, bail};
use aya::programs::Program;
use tcpwatch_common::names;
use tcpwatch_common::params::ABSENT;

use super::feature::FeatureKind;
use super::kernel::{Hook, Kernel};
use super::prepare::Prepared;
use super::refusal::{one_line, refusal};
use crate::sys::tracefs;

/// The programs on resets, for each hook.
const RESETS: [[&str; 2]; 2] = [
    [names::PROG_SEND_RESET_TP_BTF, names::PROG_SEND_RESET_TRACEPOINT],
    [names::PROG_RECEIVE_RESET_TP_BTF, names::PROG_RECEIVE_RESET_TRACEPOINT],
];

/// The programs that the kernel refuses, and why.
#[derive(Debug, Default)]
pub(super) struct Refused(Vec<(AuxProgram, String)>);

impl Refused {
    /// Why the kernel refuses `program`; `None` where it took it, or was not asked.
    pub(super) fn why(&self, program: &str) -> Option<String> {
        self.0
            .iter()
            .find(|(aux, _)| aux.program == program)
            .map(|(_, why)| why.clone())
    }

    /// Warns of what stays unknown without these programs: one line for each reason.
    pub(super) fn warn(&self) {
        let mut reasons: Vec<&String> = self.0.iter().map(|(_, why)| why).collect();
        reasons.sort();
        reasons.dedup();
        for reason in reasons {
            let same = self.0.iter().filter(|(_, why)| why == reason);
            let tracepoints: Vec<String> = same
                .map(|(aux, _)| format!("{}:{}", aux.category, aux.tracepoint))
                .collect();
            log::warn!(
                "cannot watch {}, so some endings or owners are unknown: {reason}",
                tracepoints.join(", ")
            );
        }
    }
}

/// A program beside the chain: its name, and the tracepoint it belongs on.
#[derive(Clone, Copy, Debug)]
pub(super) struct AuxProgram {
    pub(super) program: &'static str,
    pub(super) category: &'static str,
    pub(super) tracepoint: &'static str,
}

impl Prepared<'_> {
    /// The programs that are needed beside the chain of `hook`, as far as the fields they read are known.
    pub(super) fn aux_programs(&self, hook: Hook) -> Vec<AuxProgram> {
        let needs = self.request().needs;
        let reset = self.reset();
        let typed = hook == Hook::TpBtf;
        let tasks = self.layouts().task.known != 0;
        let measures = needs.latency.is_some();
        let has = |fields: &[u32]| typed || fields.iter().all(|&offset| offset != ABSENT);
        // A table by address must see the death of its sockets.
        let destroys = if typed {
            needs.connection_data() || !self.helpers().sk_storage
        } else {
            reset.destroy_skaddr != 0
        };
        let mut all = Vec::new();
        let mut add = |needed: bool, programs: [&'static str; 2], category, tracepoint| {
            let [on_tp_btf, on_tracepoint] = programs;
            if needed {
                all.push(AuxProgram {
                    program: if typed { on_tp_btf } else { on_tracepoint },
                    category,
                    tracepoint,
                });
            }
        };
        let resets = self.sees_resets(hook);
        let [sent, received] = RESETS;
        add(resets, sent, "tcp", "tcp_send_reset");
        add(resets, received, "tcp", "tcp_receive_reset");
        let destroy = [names::PROG_DESTROY_TP_BTF, names::PROG_DESTROY_TRACEPOINT];
        add(destroys, destroy, "tcp", "tcp_destroy_sock");
        let rename = [names::PROG_RENAME_TP_BTF, names::PROG_RENAME_TRACEPOINT];
        let renames = needs.owners && tasks && has(&[reset.rename_pid, reset.rename_comm]);
        add(renames, rename, "task", "task_rename");
        let exited = [names::PROG_EXITED; 2];
        add(needs.owners && tasks, exited, "sched", "sched_process_exit");
        let known = measures && self.layouts().sock.known != 0;
        let segment = [names::PROG_RETRANSMIT_TP_BTF, names::PROG_RETRANSMIT_TRACEPOINT];
        add(
            known && has(&[reset.retransmit_skaddr]),
            segment,
            "tcp",
            "tcp_retransmit_skb",
        );
        let synack = [names::PROG_SYNACK_TP_BTF, names::PROG_SYNACK_TRACEPOINT];
        let synacks = known && has(&[reset.synack_skaddr, reset.synack_req]);
        add(synacks, synack, "tcp", "tcp_retransmit_synack");
        let accepted = [names::PROG_ACCEPTED; 2];
        let accepts = self.sees_accepts();
        add(accepts, accepted, "syscalls", "sys_exit_accept");
        add(accepts, accepted, "syscalls", "sys_exit_accept4");
        all
    }

    /// Whether the fields are known that the programs on resets read.
    fn sees_resets(&self, hook: Hook) -> bool {
        self.layouts().sock.known != 0 && (hook == Hook::TpBtf || self.reset().send_skaddr != 0)
    }

    /// Whether `accept()` is to be watched, and the fields are known that its program reads.
    fn sees_accepts(&self) -> bool {
        let needs = self.request().needs;
        (needs.owners || needs.latency.is_some()) && self.layouts().task.known != 0 && self.reset().accept_ret != ABSENT
    }

    /// Attaches the programs that show how connections end and who owns them. Returns those that the kernel refuses: what they
    /// would show is unknown.
    pub(super) fn attach_aux_programs(&mut self, hook: Hook) -> Refused {
        let mut refused = Refused::default();
        for aux in self.aux_programs(hook) {
            let AuxProgram {
                program,
                category,
                tracepoint,
            } = aux;
            if let Err(why) = self.kernel.attach_one(program, category, tracepoint) {
                refused.0.push((aux, one_line(&why)));
            }
        }
        self.note_features(hook, &refused);
        refused
    }

    /// Notes what resets and `accept()` show.
    fn note_features(&mut self, hook: Hook, refused: &Refused) {
        let typed = hook == Hook::TpBtf;
        let resets = RESETS.map(|[on_tp_btf, on_tracepoint]| if typed { on_tp_btf } else { on_tracepoint });
        let unknown = (!self.sees_resets(hook)).then(|| "the offsets of socket fields are unknown".to_owned());
        let off = unknown.or_else(|| resets.iter().find_map(|name| refused.why(name)));
        self.kernel.resets = off.is_none().then_some(resets);
        let reset = *self.reset();
        let has_reasons = if typed {
            reset.typed_reason != 0
        } else {
            reset.send_reason != ABSENT
        };
        let no_reasons = (!has_reasons).then(|| "tcp:tcp_send_reset has no field reason".to_owned());
        let needs = self.request().needs;
        let accepts = self.sees_accepts();
        let features = &mut self.kernel.features;
        features.note(FeatureKind::Resets, off.clone());
        features.note(FeatureKind::ResetReasons, off.or(no_reasons));
        if needs.owners || needs.latency.is_some() {
            let unknown = (!accepts).then(|| "the fields of tasks or of sys_exit_accept4 are unknown".to_owned());
            let off = unknown.or_else(|| refused.why(names::PROG_ACCEPTED));
            if !accepts && let Some(why) = &off {
                log::warn!("the processes that accept connections are unknown: {why}");
            }
            features.note(FeatureKind::AcceptOwners, off);
        }
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
