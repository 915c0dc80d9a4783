//! Counts the sockets of a network namespace by state. Most sockets of a busy host are in `ESTABLISHED` and `TIME_WAIT`, and the kernel
//! keeps their numbers, so that only the others need be dumped.

use std::path::Path;

use anyhow::Result;
use tcpwatch_common::ledger::Pass;
use tcpwatch_common::{StateSet, TcpState};

use super::sockets::Sockets;
use crate::input::release::Release;
use crate::model::snapshot::Origin;
use crate::sys::counters::Counters;
use crate::sys::release;
use crate::sys::sockstat::Sockstat;

/// Fewer sockets are dumped, which takes no longer and counts all states at one moment.
const FEW: u64 = 1000;

/// The states that the kernel does not count.
const DUMPED: StateSet = StateSet::ALL.without(TcpState::Established).without(TcpState::TimeWait);

/// What counts the sockets of a network namespace.
pub struct Totals {
    sockets: Sockets,
    counters: Counters,
    sockstat: Sockstat,
}

/// The kernel's numbers at one moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// `Tcp:CurrEstab`: sockets in `ESTABLISHED` and, since [`Release::CURR_ESTAB_HAS_CLOSE_WAIT`], in `CLOSE_WAIT`.
    curr_estab: u64,
    /// Timewait sockets, which are in `TIME_WAIT` or `FIN_WAIT2`.
    timewait: u64,
    /// Segments received and sent since the namespace exists.
    segments: u64,
}

impl Totals {
    /// Opens all that is read in the network namespace of the calling thread, whose inode number is `netns`. `root` is `/`.
    ///
    /// # Errors
    /// One line: what cannot be opened, and the kernel's error.
    pub fn open(root: &Path, netns: u32) -> Result<Self> {
        Ok(Self {
            sockets: Sockets::open(root, netns)?,
            counters: Counters::open(root)?,
            sockstat: Sockstat::open(root)?,
        })
    }

    /// The sockets by state and kind, and how they were counted.
    ///
    /// # Errors
    /// The kernel's numbers or the sockets cannot be read.
    pub fn count(&mut self) -> Result<(Pass, Origin)> {
        if let Sockets::SockDiag(_) = self.sockets
            && let Some(before) = self.read()?
            && before.curr_estab + before.timewait >= FEW
        {
            let mut pass = self.sockets.count(DUMPED)?;
            if let Some(after) = self.read()?
                && let Some((established, time_wait)) = counted(&pass, before, after, release::running())
            {
                pass.full[usize::from(TcpState::Established.number())] = established;
                pass.timewait[usize::from(TcpState::TimeWait.number())] = time_wait;
                return Ok((pass, Origin::Counters));
            }
        }
        Ok((self.sockets.count(StateSet::ALL)?, self.sockets.origin()))
    }

    /// The kernel's numbers; `None` if it does not show them all.
    fn read(&mut self) -> Result<Option<Reading>> {
        let timewait = self.sockstat.read()?.tw;
        let counters = self.counters.read()?;
        let tcp = |name| counters.get("Tcp", name);
        let read = || {
            Some(Reading {
                curr_estab: tcp("CurrEstab")?,
                timewait: timewait?,
                segments: tcp("InSegs")?.wrapping_add(tcp("OutSegs")?),
            })
        };
        Ok(read())
    }
}

/// The sockets in `ESTABLISHED` and `TIME_WAIT`, by the numbers `before` and `after` the dump of the other states that gave `others`;
/// `None` if the numbers do not tell.
fn counted(others: &Pass, before: Reading, after: Reading, release: Release) -> Option<(u64, u64)> {
    let close_wait = others.full[usize::from(TcpState::CloseWait.number())];
    let fin_wait2 = others.timewait[usize::from(TcpState::FinWait2.number())];
    // Releases before the change may have it, or not.
    let is_counted = release >= Release::CURR_ESTAB_HAS_CLOSE_WAIT;
    if close_wait > 0 && !is_counted {
        return None;
    }
    // A connection opens and ends by segments; only a timewait socket ends without.
    let segments = after.segments.wrapping_sub(before.segments);
    if before.curr_estab.abs_diff(after.curr_estab) > segments
        || after.timewait.saturating_sub(before.timewait) > segments
    {
        return None;
    }
    let established = after.curr_estab.checked_sub(close_wait)?;
    Some((established, after.timewait.checked_sub(fin_wait2)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Release = Release::CURR_ESTAB_HAS_CLOSE_WAIT;

    fn others(close_wait: u64, fin_wait2: u64) -> Pass {
        let mut pass: Pass = bytemuck::Zeroable::zeroed();
        pass.full[8] = close_wait;
        pass.timewait[5] = fin_wait2;
        pass
    }

    fn reading(curr_estab: u64, timewait: u64, segments: u64) -> Reading {
        Reading {
            curr_estab,
            timewait,
            segments,
        }
    }

    #[test]
    fn what_was_dumped_is_subtracted() {
        let now = reading(1000, 500, 7);
        assert_eq!(counted(&others(0, 0), now, now, NEW), Some((1000, 500)));
        assert_eq!(counted(&others(300, 20), now, now, NEW), Some((700, 480)));
    }

    #[test]
    fn before_the_change_close_wait_may_be_counted_or_not() {
        let now = reading(1000, 500, 7);
        let old = Release(6, 9);
        assert_eq!(counted(&others(0, 20), now, now, old), Some((1000, 480)));
        assert_eq!(counted(&others(1, 20), now, now, old), None);
    }

    #[test]
    fn numbers_that_no_traffic_explains_tell_nothing() {
        let before = reading(1000, 500, 7);
        let all = others(3, 2);
        assert_eq!(counted(&all, before, reading(1004, 504, 11), NEW), Some((1001, 502)));
        assert_eq!(counted(&all, before, reading(1005, 500, 11), NEW), None);
        assert_eq!(counted(&all, before, reading(995, 500, 11), NEW), None);
        assert_eq!(counted(&all, before, reading(1000, 505, 11), NEW), None);
        let expired = reading(1000, 100, 7);
        assert_eq!(
            counted(&all, before, expired, NEW),
            Some((997, 98)),
            "their time was over"
        );
    }

    #[test]
    fn a_negative_number_tells_nothing() {
        let now = reading(1000, 500, 7);
        assert_eq!(counted(&others(1001, 0), now, now, NEW), None);
        assert_eq!(counted(&others(0, 501), now, now, NEW), None);
    }
}
