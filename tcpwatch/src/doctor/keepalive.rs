//! `tcp_keepalive_*`: when a silent peer is asked, and when it is given up.

use super::format::{long, told};
use super::verdict::Verdict;
use crate::input::counter::Counter;
use crate::input::host::HostFrame;
use crate::input::setting::Setting;

/// `net.ipv4.tcp_keepalive_time`, `_intvl` and `_probes`.
pub(super) fn judge(frame: &HostFrame, setting: Setting) -> Verdict {
    let time = frame.number(Setting::TcpKeepaliveTime);
    let interval = frame.number(Setting::TcpKeepaliveIntvl);
    let probes = frame.number(Setting::TcpKeepaliveProbes);
    let counted = told(frame, Counter::TcpKeepAlive);
    let verdict = match setting {
        Setting::TcpKeepaliveTime => Verdict::fine(format!(
            "asks after {} of silence, where a socket has SO_KEEPALIVE and nowhere else: {counted}. Nothing counted here asks for another",
            time.map_or_else(|| "an unknown time".into(), long)
        )),
        Setting::TcpKeepaliveIntvl => Verdict::fine("seconds between two probes. Nothing to gain"),
        _ => Verdict::fine(match time.zip(interval).zip(probes) {
            Some(((time, interval), probes)) => format!(
                "a dead peer is given up {} after its last word, with SO_KEEPALIVE. Nothing to gain",
                long(time.saturating_add(interval.saturating_mul(probes)))
            ),
            None => "probes that nobody answers, until the peer is given up".into(),
        }),
    };
    verdict.counters(&[Counter::TcpKeepAlive])
}
