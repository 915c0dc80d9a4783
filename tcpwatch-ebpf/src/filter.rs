//! The filter: decides whether to count a socket, from the ports and addresses known so far.

use tcpwatch_common::filter::{CIDR_MAX, Cidr, PORTS_EITHER, PORTS_LOCAL, PORTS_REMOTE};
use tcpwatch_common::record::AF_INET;

use crate::hook::Hook;
use crate::maps::PORTS;
use crate::params::param;
use crate::run::{PEER_UNKNOWN, Run};
use crate::sock::Endpoints;
use crate::sock_state::Storage;
use crate::state::local_port;

/// Not decided: a port or an address is still unknown.
pub(crate) const UNDECIDED: u8 = 0;
/// Counted.
pub(crate) const MATCH: u8 = 1;
/// Not counted.
pub(crate) const NO_MATCH: u8 = 2;

/// The unknown endpoints of a socket at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Unknown {
    /// The local port.
    pub(crate) lport: bool,
    /// The remote port and both addresses.
    pub(crate) peer: bool,
}

impl Unknown {
    /// Everything is known.
    pub(crate) const NOTHING: Self = Self {
        lport: false,
        peer: false,
    };
}

/// Whether a socket in namespace `netns`, of family `family`, may be counted.
#[inline(always)]
pub(crate) fn admits(netns: u32, family: u8) -> bool {
    let wanted = param!(FILTER.family);
    (param!(FILTER.netns) == 0 || param!(FILTER.netns) == netns) && (wanted == 0 || wanted == family as u32)
}

/// Whether the filter selects transitions from or to these states.
#[inline(always)]
pub(crate) fn wants(from: u32, to: u32) -> bool {
    param!(FILTER.states) & (1 << from | 1 << to) != 0
}

/// Whether the filter selects sockets in `state`.
#[inline(always)]
pub(crate) fn wants_state(state: u8) -> bool {
    wants(state as u32 & 15, state as u32 & 15)
}

/// The verdict on a socket with `endpoints`; `unknown` marks the unknown ones.
#[inline(always)]
pub(crate) fn judge(endpoints: &Endpoints, unknown: Unknown) -> u8 {
    let mut undecided = false;
    if param!(FILTER.by_lport) != 0 {
        if unknown.lport {
            undecided = true;
        } else if !in_set(PORTS_LOCAL, endpoints.lport) {
            return NO_MATCH;
        }
    }
    if param!(FILTER.by_rport) != 0 {
        if unknown.peer {
            undecided = true;
        } else if !in_set(PORTS_REMOTE, endpoints.rport) {
            return NO_MATCH;
        }
    }
    if param!(FILTER.by_port) != 0 {
        let local = !unknown.lport && in_set(PORTS_EITHER, endpoints.lport);
        let remote = !unknown.peer && in_set(PORTS_EITHER, endpoints.rport);
        if !local && !remote {
            if !unknown.lport && !unknown.peer {
                return NO_MATCH;
            }
            undecided = true;
        }
    }
    if param!(FILTER.locals) != 0 {
        if unknown.peer {
            undecided = true;
        } else if !in_ranges(endpoints.family, &endpoints.local, param!(FILTER.locals), true) {
            return NO_MATCH;
        }
    }
    if param!(FILTER.remotes) != 0 {
        if unknown.peer {
            undecided = true;
        } else if !in_ranges(endpoints.family, &endpoints.remote, param!(FILTER.remotes), false) {
            return NO_MATCH;
        }
    }
    if undecided { UNDECIDED } else { MATCH }
}

/// Whether `port` is in the set that starts at word `first`.
#[inline(always)]
fn in_set(first: u32, port: u16) -> bool {
    PORTS
        .get(first + (port >> 6) as u32)
        .is_some_and(|word| word >> (port & 63) & 1 != 0)
}

/// Whether `address` is in one of the first `count` local ranges (or remote ranges, if not `local`).
#[inline(always)]
fn in_ranges(family: u8, address: &[u32; 4], count: u32, local: bool) -> bool {
    let address = match family {
        AF_INET => [0, 0, u32::to_be(0xffff), address[0]],
        _ => *address,
    };
    for index in 0..CIDR_MAX {
        if index as u32 >= count {
            break;
        }
        if range(index, local).contains(family, &address) {
            return true;
        }
    }
    false
}

/// The range at `index`, loaded word by word, so that the verifier knows each word.
#[inline(always)]
fn range(index: usize, local: bool) -> Cidr {
    macro_rules! load {
        ($side:ident) => {
            Cidr {
                network: [
                    param!(FILTER.$side[index].network[0]),
                    param!(FILTER.$side[index].network[1]),
                    param!(FILTER.$side[index].network[2]),
                    param!(FILTER.$side[index].network[3]),
                ],
                mask: [
                    param!(FILTER.$side[index].mask[0]),
                    param!(FILTER.$side[index].mask[1]),
                    param!(FILTER.$side[index].mask[2]),
                    param!(FILTER.$side[index].mask[3]),
                ],
                ipv6: param!(FILTER.$side[index].ipv6),
            }
        };
    }
    if local { load!(local) } else { load!(remote) }
}

/// The program `filter`: decides whether to count the socket, as soon as its ports and addresses are known.
#[inline(always)]
pub(crate) fn apply<H: Hook>(hook: &H, run: &mut Run, storage: &mut Storage) -> Option<()> {
    let step = run.step();
    let mut kept = hook.kept(storage, false);
    if step.is_birth()
        && let Some(state) = &mut kept.state
    {
        state.begin();
    }
    let (verdict, stale_sport) = match &kept.state {
        Some(state) => (state.verdict, state.stale_sport),
        None => (UNDECIDED, 0),
    };
    run.verdict = verdict;
    if verdict == UNDECIDED {
        let (lport, lport_unknown) = local_port(hook, step, stale_sport);
        let endpoints = hook.endpoints(lport);
        let unknown = Unknown {
            lport: lport_unknown,
            peer: step.is_child() && endpoints.rport == 0,
        };
        if unknown.peer {
            run.flags |= PEER_UNKNOWN;
        }
        run.verdict = judge(&endpoints, unknown);
    }
    // At the close, nothing more will become known.
    if run.verdict == NO_MATCH || run.verdict == UNDECIDED && step.is_last() {
        if let Some(state) = kept.state {
            state.verdict = NO_MATCH;
            state.release(run.ledger()?);
        }
        if step.is_last() {
            hook.forget();
        }
        return None;
    }
    Some(())
}
