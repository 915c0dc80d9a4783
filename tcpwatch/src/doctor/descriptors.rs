//! Files: `file-max`, `nr_open`, and processes that run out of descriptors, for which accept(2) fails (EMFILE).

use super::format::reaches;
use super::judgement::Judgement;
use crate::detect::finding::{Finding, Severity};
use crate::explain::kind::FindingKind;
use crate::explain::topic::Topic;
use crate::input::host::{Descriptors, HostFrame};
use crate::input::setting::Setting;
use crate::model::format::thousands;

/// Of a limit, the part from which it is near, percent.
const NEAR: u64 = 80;

/// A limit below is of no use to anybody.
const FEW: u64 = 65_536;

/// Whether `part` is near `whole`.
fn is_near(part: u64, whole: u64) -> bool {
    reaches(part, whole, NEAR)
}

/// `nginx[812] has 1,000 of 1,024 descriptors open`.
fn has(process: &Descriptors) -> String {
    format!(
        "{} has {} of {} descriptors open",
        process.owner,
        thousands(process.open),
        thousands(process.limit)
    )
}

/// `fs.file-max`.
pub(super) fn file_max(frame: &HostFrame) -> Judgement {
    let limit = frame.number(Setting::FileMax).unwrap_or(u64::MAX);
    let verdict = match frame.open_files {
        Some(open) if is_near(open, limit) => Judgement::warning(format!(
            "{} of {} files of the host are open: at the limit nobody opens or accepts (ENFILE)",
            thousands(open),
            thousands(limit)
        ))
        .with_set_command(
            frame,
            Setting::FileMax,
            &limit.saturating_mul(2).clamp(FEW, i64::MAX as u64).to_string(),
            "about 1 KiB of kernel memory for each file that is then opened; who leaks them is not stopped",
        ),
        _ => Judgement::fine(),
    };
    verdict.evidence("open_files", frame.open_files)
}

/// `fs.nr_open`.
pub(super) fn nr_open(frame: &HostFrame) -> Judgement {
    let limit = frame.number(Setting::NrOpen).unwrap_or(u64::MAX);
    let fullest = frame.descriptors.as_ref().and_then(|nearest| nearest.first());
    let verdict = match fullest {
        Some(process) if is_near(process.open, process.limit) && process.limit >= limit => {
            Judgement::warning(format!("{}, and is allowed no more", has(process))).with_set_command(
                frame,
                Setting::NrOpen,
                &limit.saturating_mul(2).max(FEW).to_string(),
                "none by itself: the limit of the process is to be raised too (LimitNOFILE=, ulimit -n)",
            )
        }
        _ => Judgement::fine(),
    };
    verdict
        .evidence("open", fullest.map(|process| process.open))
        .evidence("limit", fullest.map(|process| process.limit))
}

/// Processes near their limit.
pub(super) fn near_limit(frame: &HostFrame, findings: &mut Vec<Finding>) {
    for process in frame
        .descriptors
        .iter()
        .flatten()
        .filter(|process| is_near(process.open, process.limit))
    {
        findings.push(Finding {
            kind: FindingKind::Host,
            topic: Topic::Setting(Setting::NrOpen),
            severity: if process.open >= process.limit {
                Severity::Critical
            } else {
                Severity::Warning
            },
            title: format!(
                "{}: at the limit it accepts and opens nothing more (EMFILE)",
                has(process)
            ),
            evidence: vec![("open", process.open.into()), ("limit", process.limit.into())],
            advice: vec![
                "see whether it leaks them: tcpwatch leaks".into(),
                "raise its limit: LimitNOFILE= in its systemd unit, or ulimit -n before it starts".into(),
            ],
            owner: Some(process.owner),
        });
    }
}
