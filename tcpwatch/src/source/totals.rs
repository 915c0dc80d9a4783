//! Counts the sockets of a network namespace by state. Most sockets of a busy host are in `ESTABLISHED` and `TIME_WAIT`, and the kernel
//! keeps their numbers, so that only the others need be dumped.

use std::path::Path;

use anyhow::Result;
use tcpwatch_common::ledger::Pass;
use tcpwatch_common::{StateSet, TcpState};

use super::sockets::Sockets;
use crate::input::release::Release;
use crate::model::snapshot::Origin;
use crate::sys::counters;
use crate::sys::proc_file::ProcFile;
use crate::sys::release;
use crate::sys::sockstat::Sockstat;

/// Fewer sockets are dumped, which takes no longer and counts all states at one moment.
const FEW: u64 = 1000;

/// All sockets are dumped where the numbers changed by more than 1/100 during the dump of the others.
const STEADY: u64 = 100;

/// The states that the kernel does not count.
const DUMPED: StateSet = StateSet::ALL.without(TcpState::Established).without(TcpState::TimeWait);

/// What counts the sockets of a network namespace.
pub struct Totals {
    sockets: Sockets,
    /// Where the kernel's numbers are; `None` if they cannot be read, or help nothing.
    numbers: Option<Numbers>,
}

/// The files with the kernel's numbers.
struct Numbers {
    snmp: ProcFile,
    sockstat: Sockstat,
}

/// The kernel's numbers at one moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// `Tcp:CurrEstab`: sockets in `ESTABLISHED` and, since [`Release::CURR_ESTAB_HAS_CLOSE_WAIT`], in `CLOSE_WAIT`.
    curr_estab: u64,
    /// Timewait sockets, which are in `TIME_WAIT` or `FIN_WAIT2`.
    timewait: u64,
}

impl Totals {
    /// Opens all that is read in the network namespace of the calling thread, whose inode number is `netns`. `root` is `/`.
    ///
    /// # Errors
    /// One line, if the kernel shows no sockets.
    pub fn open(root: &Path, netns: u32) -> Result<Self> {
        let sockets = Sockets::open(root, netns)?;
        let numbers = match sockets {
            Sockets::SockDiag(_) => Numbers::open(root).ok(),
            // Its tables have all states.
            Sockets::Proc { .. } => None,
        };
        Ok(Self { sockets, numbers })
    }

    /// The sockets by state and kind, and how they were counted.
    ///
    /// # Errors
    /// The sockets cannot be read.
    pub fn count(&mut self) -> Result<(Pass, Origin)> {
        if let Some(numbers) = &mut self.numbers
            && let Some(before) = numbers.read()
            && before.curr_estab + before.timewait >= FEW
        {
            let mut pass = self.sockets.count(DUMPED)?;
            let after = numbers.read();
            let counted = after.and_then(|after| counted(&pass, before, after, release::running()));
            if let Some((established, time_wait)) = counted {
                pass.full[usize::from(TcpState::Established.number())] = established;
                pass.timewait[usize::from(TcpState::TimeWait.number())] = time_wait;
                return Ok((pass, Origin::Counters));
            }
        }
        Ok((self.sockets.count(StateSet::ALL)?, self.sockets.origin()))
    }
}

impl Numbers {
    fn open(root: &Path) -> Result<Self> {
        Ok(Self {
            snmp: ProcFile::open(&root.join("proc/thread-self/net/snmp"))?,
            sockstat: Sockstat::open(root)?,
        })
    }

    /// The numbers of this moment; `None` if the kernel does not show them.
    fn read(&mut self) -> Option<Reading> {
        let timewait = self.sockstat.read().ok()?.tw?;
        let snmp = counters::Reading::new(self.snmp.read().ok()?, "");
        // The sum over all CPUs is not of one moment, and may be negative for it.
        let is_sum = |sum: &u64| i64::try_from(*sum).is_ok();
        Some(Reading {
            curr_estab: snmp.get("Tcp", "CurrEstab").filter(is_sum)?,
            timewait: Some(timewait).filter(is_sum)?,
        })
    }
}

/// The sockets in `ESTABLISHED` and `TIME_WAIT`, by the numbers `before` and `after` the dump of the other states that gave `others`;
/// `None` if the numbers do not tell.
fn counted(others: &Pass, before: Reading, after: Reading, release: Release) -> Option<(u64, u64)> {
    let close_wait = others.full[usize::from(TcpState::CloseWait.number())];
    let fin_wait2 = others.timewait[usize::from(TcpState::FinWait2.number())];
    // Earlier releases may have the change, or not.
    if close_wait > 0 && release < Release::CURR_ESTAB_HAS_CLOSE_WAIT {
        return None;
    }
    let changed = before.curr_estab.abs_diff(after.curr_estab) + before.timewait.abs_diff(after.timewait);
    if changed > (before.curr_estab + before.timewait) / STEADY {
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

    fn reading(curr_estab: u64, timewait: u64) -> Reading {
        Reading { curr_estab, timewait }
    }

    #[test]
    fn what_was_dumped_is_subtracted() {
        let now = reading(1000, 500);
        assert_eq!(counted(&others(0, 0), now, now, NEW), Some((1000, 500)));
        assert_eq!(counted(&others(300, 20), now, now, NEW), Some((700, 480)));
    }

    #[test]
    fn before_the_change_close_wait_may_be_counted_or_not() {
        let now = reading(1000, 500);
        let old = Release(6, 9);
        assert_eq!(counted(&others(0, 20), now, now, old), Some((1000, 480)));
        assert_eq!(counted(&others(1, 20), now, now, old), None);
    }

    #[test]
    fn numbers_that_changed_meanwhile_tell_nothing() {
        let before = reading(1000, 500);
        let all = others(3, 2);
        assert_eq!(counted(&all, before, reading(1010, 495), NEW), Some((1007, 493)));
        assert_eq!(counted(&all, before, reading(1010, 494), NEW), None);
        // Half of the sockets in CLOSE_WAIT were closed meanwhile.
        let closed = reading(10_000, 500);
        assert_eq!(counted(&others(5000, 0), reading(15_000, 500), closed, NEW), None);
    }

    #[test]
    fn a_negative_number_tells_nothing() {
        let now = reading(1000, 500);
        assert_eq!(counted(&others(1001, 0), now, now, NEW), None);
        assert_eq!(counted(&others(0, 501), now, now, NEW), None);
    }

    #[test]
    fn numbers_that_cannot_be_read_are_none() {
        let root = tempfile::tempdir().unwrap();
        assert!(Numbers::open(root.path()).is_err());
        let net = root.path().join("proc/thread-self/net");
        std::fs::create_dir_all(&net).unwrap();
        let read = |curr_estab: &str, tw: &str| {
            std::fs::write(net.join("snmp"), format!("Tcp: CurrEstab\nTcp: {curr_estab}\n")).unwrap();
            std::fs::write(net.join("sockstat"), format!("TCP: inuse 1 {tw}\n")).unwrap();
            let reading = Numbers::open(root.path()).unwrap().read()?;
            Some((reading.curr_estab, reading.timewait))
        };
        assert_eq!(read("7", "tw 3"), Some((7, 3)));
        assert_eq!(read("18446744073709551615", "tw 3"), None);
        assert_eq!((read("x", "tw 3"), read("7", "")), (None, None));
    }
}
