//! Makes a plan for the engine from the arguments that watching commands share.

use std::time::Duration;

use crate::cli::values::Interval;
use crate::cli::{Common, HookArg};
use crate::engine::Plan;
use crate::input::needs::Needs;
use crate::source::ebpf::{Choice, Hook};
use crate::source::live::Options;

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
        interval: None,
        count: None,
        duration: watch.duration.map(|Interval(time)| time),
    }
}

/// The interval `asked` for, or `seconds` by default.
pub(super) fn interval(asked: Option<Interval>, seconds: u64) -> Duration {
    asked.map_or(Duration::from_secs(seconds), |Interval(time)| time)
}
