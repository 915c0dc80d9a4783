//! Makes a plan for the engine from the arguments that watching commands share.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::values::Interval;
use crate::cli::{Common, HookArg};
use crate::engine::{Plan, Recorded};
use crate::input::needs::Needs;
use crate::record::{Header, Kept};
use crate::source::ebpf::{Choice, Hook};
use crate::source::live::Options;

/// The option that records a run.
const RECORD: &str = "--record";

/// A plan by the options `common`, for a view with these `needs`.
pub(super) fn plan(common: &Common, needs: Needs) -> Plan {
    let Common { filter, watch, .. } = common;
    Plan {
        options: Options {
            filter: filter.to_filter(),
            netns: filter.netns.clone(),
            hook: match watch.hook {
                HookArg::TpBtf => Choice::Only(Hook::TpBtf),
                HookArg::Tracepoint => Choice::Only(Hook::Tracepoint),
                HookArg::Auto => Choice::Auto,
            },
            ring_bytes: watch.ring_size.0,
        },
        needs,
        shows: needs,
        interval: None,
        count: None,
        duration: watch.duration.map(|Interval(time)| time),
        starts_program: false,
        record: watch.record.clone().map(|dir| recorded(dir, None)),
    }
}

/// A recording of this process in `dir`.
pub(super) fn recorded(dir: PathBuf, kept: Option<Kept>) -> Recorded {
    let header = Header::new(recorded_args());
    Recorded { dir, header, kept }
}

/// The arguments of this process without `--record DIR`, and without those after `--`, which may hold secrets of another program.
fn recorded_args() -> Vec<String> {
    let mut args = env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    let mut recorded = Vec::new();
    while let Some(arg) = args.next().filter(|arg| arg != "--") {
        match arg.strip_prefix(RECORD) {
            Some("") => drop(args.next()),
            Some(value) if value.starts_with('=') => {}
            _ => recorded.push(arg),
        }
    }
    recorded
}

/// The number of `--limit`.
pub(super) fn limit(asked: u32) -> usize {
    usize::try_from(asked).unwrap_or(usize::MAX)
}

/// The interval `asked` for, or `seconds` by default.
pub(super) fn interval(asked: Option<Interval>, seconds: u64) -> Duration {
    asked.map_or(Duration::from_secs(seconds), |Interval(time)| time)
}
