//! A wider `ip_local_port_range` that takes no listener's port.

use std::ops::RangeInclusive;

use super::format::reaches;
use crate::input::host::HostFrame;
use crate::input::ports::range::PortRange;
use crate::input::setting::Setting;

/// Not below this one: the numbers of most services are there, whether or not one runs now.
const FIRST: u16 = 10_240;
/// All ports, as `ip_local_port_range` writes them.
const ALL: &str = "1 65535";

/// The range to set, in which so many ports `in_the_way` are fewer than `low` percent: wider at its end, and only where that is not
/// enough at its beginning too. `None` where no port can be added, or where it is not known who listens.
pub(super) fn wider(frame: &HostFrame, in_the_way: u64, low: u64) -> Option<RangeInclusive<u16>> {
    let (now, listeners) = (frame.range.as_ref()?.bounds(), frame.listeners.as_ref()?);
    let reserved = frame.settings.get(&Setting::IpLocalReservedPorts)?;
    // A reserved port adds nothing to a range, and a listener at one stands in no way.
    let free = PortRange::parse(ALL, reserved)?;
    let usable = |range: &RangeInclusive<u16>| range.clone().filter(|&port| free.contains(port)).count() as u64;
    let taken = || {
        listeners
            .iter()
            .map(|listener| listener.port)
            .filter(|&port| free.contains(port))
    };
    let above = taken().filter(|port| port > now.end()).min();
    let below = taken().filter(|port| port < now.start()).max();
    let end = above.map_or(u16::MAX, |port| port - 1);
    let later = *now.start()..=end;
    let range = if reaches(in_the_way, usable(&later), low) {
        let first = below.map_or(FIRST, |port| FIRST.max(port + 1));
        // The kernel wants one end even and the other odd (`ipv4_local_port_range`).
        let first = first.saturating_add(u16::from((first ^ end) & 1 == 0));
        first.min(*now.start())..=end
    } else {
        later
    };
    (usable(&range) > usable(&now)).then_some(range)
}
