//! The ports that one destination holds, those in `TIME_WAIT` among them, and whether connect(2) still finds one.

use super::format::{counter_text, long, reaches};
use super::judgement::Judgement;
use crate::detect::port_exhaustion;
use crate::input::counter::Counter;
use crate::input::host::HostFrame;
use crate::input::ports::reuse::TIME_WAIT_MS;
use crate::input::ports::walk::PortsHeld;
use crate::input::setting::Setting;
use crate::model::format::thousands;

/// Share of the ports in use to one destination with which they run low, percent.
pub(super) const LOW: u64 = port_exhaustion::LOW as u64;
/// Share with which the next connects fail, percent: connect(2) finds the last free ports by chance.
pub(super) const OUT: u64 = 98;

/// What connect(2) does with a port that is in `TIME_WAIT` to the same destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeWait {
    /// It leaves it alone, as it is set.
    Keeps,
    /// Nobody knows, for one of the settings is not known.
    Unknown,
    /// It may take it after so many ms, if the old connection used timestamps (`tcp_twsk_unique`); it never did here.
    Untried(u32),
    /// The same, and it did so to one destination or another.
    Taken(u32),
}

/// What connect(2) does with the ports of `held` in TIME_WAIT.
pub(super) fn time_wait(frame: &HostFrame, held: &PortsHeld) -> TimeWait {
    let Some(destination) = held.ends.destination else {
        return TimeWait::Keeps;
    };
    let Some(reuse) = frame.tw_reuse() else {
        let may = match frame.number(Setting::TcpTwReuse) {
            Some(0) => false,
            Some(2) => is_to_loopback(held),
            _ => true,
        };
        let is_known = !may || frame.number(Setting::TcpTimestamps) == Some(0);
        return if is_known { TimeWait::Keeps } else { TimeWait::Unknown };
    };
    match reuse.held_ms(held.ends.source, destination.ip()) {
        TIME_WAIT_MS.. => TimeWait::Keeps,
        after if frame.counter(Counter::TwRecycled).is_some_and(|taken| taken > 0) => TimeWait::Taken(after),
        after => TimeWait::Untried(after),
    }
}

/// The ports that the next connect(2) cannot have, of those held. Of those in `TIME_WAIT` it may take all but the youngest, where it
/// is known to take any: they came one after another.
pub(super) fn in_the_way(frame: &HostFrame, held: &PortsHeld) -> u64 {
    let open = held.used.saturating_sub(held.time_wait);
    let waiting = match time_wait(frame, held) {
        TimeWait::Keeps | TimeWait::Unknown | TimeWait::Untried(_) => held.time_wait,
        TimeWait::Taken(after) => {
            let young = u128::from(held.time_wait) * u128::from(after);
            u64::try_from(young.div_ceil(TIME_WAIT_MS.into())).unwrap_or(u64::MAX)
        }
    };
    open.saturating_add(waiting)
}

/// The destination that leaves the fewest ports, where they run low.
pub(super) fn nearly_out(frame: &HostFrame) -> Option<&PortsHeld> {
    let usable = u64::from(frame.range.as_ref()?.usable());
    let held = frame.held.iter().flat_map(|held| &held.to);
    held.filter(|held| reaches(in_the_way(frame, held), usable, LOW))
        .max_by_key(|held| in_the_way(frame, held))
}

/// The source address that has nearly every port held by some connection.
pub(super) fn nearly_out_of(frame: &HostFrame) -> Option<&PortsHeld> {
    let usable = u64::from(frame.range.as_ref()?.usable());
    let mut held = frame.held.iter().flat_map(|held| &held.of);
    held.find(|held| reaches(held.used, usable, OUT))
}

/// Whether `TIME_WAIT` holds most of them.
pub(super) fn is_by_time_wait(held: &PortsHeld) -> bool {
    reaches(held.time_wait, held.used, 50)
}

/// Whether the destination is this host itself.
pub(super) fn is_to_loopback(held: &PortsHeld) -> bool {
    let destination = held.ends.destination;
    destination.is_some_and(|destination| destination.ip().to_canonical().is_loopback())
}

/// `10.0.0.1 to 10.0.0.9:6379 holds 24,310 of 28,232 ports, 24,000 of them in TIME_WAIT`, and whether connect(2) takes those.
pub(super) fn holds(frame: &HostFrame, held: &PortsHeld) -> String {
    let usable = frame.range.as_ref().map_or(0, |range| range.usable().into());
    let destination = held.ends.destination.map(|to| format!(" to {to}"));
    let holds = format!(
        "{}{} holds {} of {} ports, {} of them in TIME_WAIT",
        held.ends.source,
        destination.unwrap_or_default(),
        thousands(held.used),
        thousands(usable),
        thousands(held.time_wait)
    );
    match time_wait(frame, held) {
        _ if held.time_wait == 0 || !reaches(held.used, usable, LOW) => holds,
        TimeWait::Keeps | TimeWait::Unknown => holds,
        TimeWait::Untried(ms) => format!(
            "{holds}, which connect() may take after {} where the other side used timestamps, and never did: {}",
            after(ms),
            counter_text(frame, Counter::TwRecycled)
        ),
        TimeWait::Taken(ms) => format!(
            "{holds}, which connect() takes after {} where the other side used timestamps: {}",
            after(ms),
            counter_text(frame, Counter::TwRecycled)
        ),
    }
}

/// The verdict where ports are not known to run low.
pub(super) fn enough(frame: &HostFrame) -> Judgement {
    let Some(range) = &frame.range else {
        return Judgement::fine();
    };
    if frame.has_ports_to_spare() == Some(true) {
        return Judgement::fine();
    }
    match &frame.held {
        Some(held) if held.whole => match held.to.first() {
            Some(most) if reaches(most.used, range.usable().into(), LOW) => Judgement::note(holds(frame, most)),
            _ => Judgement::fine(),
        },
        _ => Judgement::note(
            "how many ports are held to which destination was not counted, or not completely: tcpwatch churn shows it",
        ),
    }
}

/// `connect() takes no port that is in TIME_WAIT to the same destination`.
pub(super) fn meaning(frame: &HostFrame) -> String {
    let delay = frame
        .tw_reuse_delay
        .as_deref()
        .map_or(Ok(1000), |text| text.trim().parse());
    let after = delay.map_or_else(|_| "an unknown time".into(), after);
    match frame.number(Setting::TcpTwReuse) {
        Some(0) => "connect() takes no port that is in TIME_WAIT to the same destination".into(),
        Some(2) => format!("connect() may take a port in TIME_WAIT after {after}, over loopback alone"),
        _ => format!(
            "connect() may take a port in TIME_WAIT after {after}, where the other side used timestamps; what this host accepts is not \
             touched"
        ),
    }
}

/// `1 s`, `250 ms`.
fn after(ms: u32) -> String {
    if ms.is_multiple_of(1000) {
        long(u64::from(ms) / 1000)
    } else {
        format!("{ms} ms")
    }
}
