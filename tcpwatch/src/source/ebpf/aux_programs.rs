//! Programs on other tracepoints. They show how connections end, who owns them, and which user stacks open them.

use anyhow::{Context, Result, bail};
use aya::programs::Program;
use tcpwatch_common::names;
use tcpwatch_common::params::ABSENT;

use super::feature::FeatureKind;
use super::kernel::{Hook, Kernel};
use super::prepare::Prepared;
use super::refusal::{one_line, refusal};
use crate::sys::tracefs;

/// The programs for resets, by hook.
const RESETS: [[&str; 2]; 2] = [
    [names::PROG_SEND_RESET_TP_BTF, names::PROG_SEND_RESET_TRACEPOINT],
    [names::PROG_RECEIVE_RESET_TP_BTF, names::PROG_RECEIVE_RESET_TRACEPOINT],
];

/// A program on another tracepoint than the chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct AuxProgram {
    pub(super) program: &'static str,
    /// The tracepoint: category and name.
    pub(super) category: &'static str,
    pub(super) tracepoint: &'static str,
    /// The values that it shows.
    shows: &'static str,
}

/// The programs that could not be attached, and why.
#[derive(Debug, Default)]
pub(super) struct Refused(Vec<(AuxProgram, String)>);

impl Refused {
    /// Why `program` could not be attached; `None` if it was attached or not needed.
    pub(super) fn why(&self, program: &str) -> Option<String> {
        self.0
            .iter()
            .find(|(aux, _)| aux.program == program)
            .map(|(_, why)| why.clone())
    }

    /// The values that stay unknown without these programs, and why, in one line; `None` if there are none.
    pub(super) fn words(&self) -> Option<String> {
        let mut shown: Vec<&str> = Vec::new();
        let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
        for (aux, why) in &self.0 {
            if !shown.contains(&aux.shows) {
                shown.push(aux.shows);
            }
            let tracepoint = format!("{}:{}", aux.category, aux.tracepoint);
            match reasons.iter_mut().find(|(reason, _)| reason == why) {
                Some((_, tracepoints)) => tracepoints.push(tracepoint),
                None => reasons.push((why, vec![tracepoint])),
            }
        }
        let reasons: Vec<String> = reasons
            .into_iter()
            .map(|(why, tracepoints)| format!("{} ({why})", tracepoints.join(", ")))
            .collect();
        (!shown.is_empty()).then(|| {
            format!(
                "some {} stay unknown: cannot watch {}",
                shown.join(" and "),
                reasons.join(", ")
            )
        })
    }
}

impl Prepared<'_> {
    /// The other programs that are needed with the chain of `hook`.
    pub(super) fn aux_programs(&self, hook: Hook) -> Vec<AuxProgram> {
        let needs = self.request().needs;
        let typed = hook == Hook::TpBtf;
        let tasks = self.layouts().task.known != 0;
        let sockets = self.layouts().sock.known != 0;
        let mut all = Vec::new();
        let mut add = |needed: bool, programs: [&'static str; 2], (category, tracepoint), shows| {
            let [on_tp_btf, on_tracepoint] = programs;
            if needed {
                all.push(AuxProgram {
                    program: if typed { on_tp_btf } else { on_tracepoint },
                    category,
                    tracepoint,
                    shows,
                });
            }
        };
        let [sent, received] = RESETS;
        add(sockets, sent, ("tcp", "tcp_send_reset"), "endings");
        add(sockets, received, ("tcp", "tcp_receive_reset"), "endings");
        // A table by address must see the destruction of its sockets.
        let destroys = needs.connection_data() || !self.helpers().sk_storage;
        let destroy = [names::PROG_DESTROY_TP_BTF, names::PROG_DESTROY_TRACEPOINT];
        add(destroys, destroy, ("tcp", "tcp_destroy_sock"), "endings");
        let owners = needs.owners && tasks;
        // The classic tracepoint of Linux 6.17 has no field for the process ID. Use the typed one then.
        let rename = if self.records().layout.rename_pid == ABSENT {
            [names::PROG_RENAME_TP_BTF; 2]
        } else {
            [names::PROG_RENAME_TP_BTF, names::PROG_RENAME_TRACEPOINT]
        };
        add(owners, rename, ("task", "task_rename"), "owners");
        add(
            owners,
            [names::PROG_EXITED; 2],
            ("sched", "sched_process_exit"),
            "owners",
        );
        let measures = needs.latency.is_some() && sockets;
        let segment = [names::PROG_RETRANSMIT_TP_BTF, names::PROG_RETRANSMIT_TRACEPOINT];
        add(measures, segment, ("tcp", "tcp_retransmit_skb"), "retransmits");
        let synack = [names::PROG_SYNACK_TP_BTF, names::PROG_SYNACK_TRACEPOINT];
        add(measures, synack, ("tcp", "tcp_retransmit_synack"), "retransmits");
        let accepts = (needs.owners || needs.latency.is_some()) && tasks;
        let accepted = [names::PROG_ACCEPTED; 2];
        let shows = match needs.latency {
            Some(_) => "times of accept()",
            None => "owners",
        };
        add(accepts, accepted, ("syscalls", "sys_exit_accept"), shows);
        add(accepts, accepted, ("syscalls", "sys_exit_accept4"), shows);
        all
    }

    /// Attaches these programs. Returns the programs that could not be attached: their values stay unknown.
    pub(super) fn attach_aux_programs(&mut self, hook: Hook) -> Refused {
        let mut refused = Refused::default();
        for aux in self.aux_programs(hook) {
            let attached = match self.records().why_not(aux.category, aux.tracepoint) {
                Some(why) if self.kernel.reads_records(aux.program) => Err(why.to_owned()),
                _ => {
                    let attached = self.kernel.attach_one(aux.program, aux.category, aux.tracepoint);
                    attached.map_err(|why| one_line(&why))
                }
            };
            if let Err(why) = attached {
                refused.0.push((aux, why));
            }
        }
        self.note_features(hook, &refused);
        refused
    }

    /// Records the features of resets and of `accept()`.
    fn note_features(&mut self, hook: Hook, refused: &Refused) {
        let typed = hook == Hook::TpBtf;
        let resets = RESETS.map(|[on_tp_btf, on_tracepoint]| if typed { on_tp_btf } else { on_tracepoint });
        let unknown = (self.layouts().sock.known == 0).then(|| "the offsets of socket fields are unknown".to_owned());
        let off = unknown.or_else(|| resets.iter().find_map(|name| refused.why(name)));
        self.kernel.resets = off.is_none().then_some(resets);
        let reset = self.records().layout;
        let has_reasons = if typed {
            self.layouts().typed_reason
        } else {
            reset.send_reason != ABSENT
        };
        let no_reasons = (!has_reasons).then(|| "tcp:tcp_send_reset has no field reason".to_owned());
        let needs = self.request().needs;
        let unknown_tasks = self.unknown_tasks();
        let features = &mut self.kernel.features;
        features.note(FeatureKind::Resets, off.clone());
        features.note(FeatureKind::ResetReasons, off.or(no_reasons));
        if needs.owners || needs.latency.is_some() {
            let off = unknown_tasks.or_else(|| refused.why(names::PROG_ACCEPTED));
            features.note(FeatureKind::AcceptOwners, off);
        }
    }

    /// Why the fields of tasks are unknown; `None` if they are known.
    pub(super) fn unknown_tasks(&self) -> Option<String> {
        let layouts = self.layouts();
        let why = layouts.task_unknown.as_deref().unwrap_or("they were not needed");
        (layouts.task.known == 0).then(|| format!("the fields of tasks are unknown: {why}"))
    }

    /// Attaches the programs that copy user stacks.
    pub(super) fn attach_stacks(&mut self) -> Result<()> {
        let task = self.layouts().task;
        let fields = [task.start_boottime, task.self_exec_id, task.stack_pointer];
        if let Some(why) = self.unknown_tasks() {
            bail!(why);
        }
        if fields.contains(&ABSENT) {
            bail!("the kernel's BTF does not show where the registers of a task are");
        }
        if let Some(why) = self.records().why_not("syscalls", "sys_exit_accept4") {
            bail!("cannot watch syscalls:sys_exit_accept4 ({why})");
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
    /// Whether `program` uses a classic tracepoint, which needs tracefs.
    fn reads_records(&self, program: &str) -> bool {
        matches!(self.ebpf.program(program), Some(Program::TracePoint(_)))
    }

    /// Loads `program`, if it is not loaded yet, and attaches it to the tracepoint.
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
            _ => bail!("the BPF object's {program} is not a tracepoint program"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(
        program: &'static str,
        tracepoint: &'static str,
        shows: &'static str,
        why: &str,
    ) -> (AuxProgram, String) {
        let aux = AuxProgram {
            program,
            category: "tcp",
            tracepoint,
            shows,
        };
        (aux, why.to_owned())
    }

    #[test]
    fn unknown_values_are_one_line() {
        assert_eq!(Refused::default().words(), None);
        let refused = Refused(vec![
            refused("a", "tcp_send_reset", "endings", "it has no field skaddr"),
            refused("b", "tcp_receive_reset", "endings", "it has no field skaddr"),
            refused(
                "c",
                "tcp_retransmit_skb",
                "retransmits",
                "this kernel has no such tracepoint",
            ),
        ]);
        assert_eq!(refused.why("c").as_deref(), Some("this kernel has no such tracepoint"));
        assert_eq!(
            refused.words().as_deref(),
            Some(
                "some endings and retransmits stay unknown: cannot watch tcp:tcp_send_reset, tcp:tcp_receive_reset (it has no \
                 field skaddr), tcp:tcp_retransmit_skb (this kernel has no such tracepoint)"
            )
        );
    }
}
