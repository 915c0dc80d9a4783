//! How often data is sent again before a connection is given up: `tcp_retries2`.

use super::format::{counter_text, long};
use super::judgement::Judgement;
use crate::input::counter::Counter;
use crate::input::host::HostFrame;
use crate::input::setting::Setting;

/// Retries that take 100 s with the shortest timeout: RFC 1122, 4.2.3.5, wants at least that.
const RFC1122: u64 = 8;
/// The shortest timeout, ms (`TCP_RTO_MIN`); each is twice the one before.
const RTO_MIN_MS: u64 = 200;

/// `net.ipv4.tcp_retries2`.
pub(super) fn judge(frame: &HostFrame) -> Judgement {
    let verdict = match frame.number(Setting::TcpRetries2) {
        Some(retries) if retries < RFC1122 => Judgement::note(format!(
            "gives up {} after nothing was acknowledged, and RFC 1122 wants 100 s at least: {}, connects that timed out among them, so \
             that whether it hurts here is unknown",
            long(((2 << retries) - 1) * RTO_MIN_MS / 1000),
            counter_text(frame, Counter::TcpAbortOnTimeout)
        )),
        _ => Judgement::fine(),
    };
    verdict.counters(&[Counter::TcpAbortOnTimeout])
}
