//! What the commands that watch have in common: from their arguments to a plan.

use std::time::Duration;

use crate::cli::values::Interval;
use crate::cli::{Common, HookArg};
use crate::engine::Plan;
use crate::input::needs::Needs;
use crate::source::ebpf::{Choice, Hook};
use crate::source::live::Options;

/// What to watch, by `common`, for a view that needs `needs`.
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

/// The interval that was asked for, or so many `seconds`.
pub(super) fn interval(asked: Option<Interval>, seconds: u64) -> Duration {
    asked.map_or(Duration::from_secs(seconds), |Interval(time)| time)
}
