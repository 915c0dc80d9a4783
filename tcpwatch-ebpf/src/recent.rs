//! The events that the first copy of the programs has seen and the second has not yet, on each CPU.
//!
//! The kernel skips a `tp_btf` program that would run inside itself on a CPU. Both copies are attached to the tracepoint. The
//! first leaves the identity of each event here; the second removes it, or handles the event if it is absent.

use crate::maps::RECENT;
use crate::step::Step;

/// Places of one CPU: an event of a task, one of a softirq that interrupts it, a few of preempted tasks (Linux 7.0 on), and those
/// that stay because the kernel skipped the second copy for them.
const PLACES: usize = 8;

/// The events of one CPU.
#[repr(C)]
pub(crate) struct Recent {
    events: [Event; PLACES],
    /// Events left so far.
    count: u64,
}

/// The identity of one event.
#[repr(C)]
struct Event {
    /// Address of the socket. The verifier lets a program store a pointer and compare it, but not compute with it.
    sk: u64,
    /// States, `from << 4 | to`; 0 for a free place.
    states: u32,
    /// When it was left, by [`Recent::count`].
    since: u32,
}

/// The states of an event in one word, never 0.
#[inline(always)]
fn states(step: Step) -> u32 {
    step.from << 4 | step.to
}

/// Leaves an event for the second copy: in the first free place, else in the oldest, which the second copy never came for.
#[inline(always)]
pub(crate) fn leave(sk: u64, step: Step) {
    let Some(recent) = RECENT.get_ptr_mut(0) else { return };
    // SAFETY: the entry of this CPU. A run that interrupts this one has taken its own event back before this one goes on.
    let recent = unsafe { &mut *recent };
    recent.count += 1;
    let now = recent.count as u32;
    let mut place = 0;
    if recent.events[0].states != 0 {
        let mut age = now.wrapping_sub(recent.events[0].since);
        for other in 1..PLACES {
            if recent.events[other].states == 0 {
                place = other;
                break;
            }
            let other_age = now.wrapping_sub(recent.events[other].since);
            if other_age > age {
                (place, age) = (other, other_age);
            }
        }
    }
    let event = &mut recent.events[place & (PLACES - 1)];
    event.sk = sk;
    event.states = states(step);
    event.since = now;
}

/// Removes an event; whether it was there.
#[inline(always)]
pub(crate) fn take(sk: u64, step: Step) -> bool {
    let Some(recent) = RECENT.get_ptr_mut(0) else {
        return true;
    };
    // SAFETY: as in `leave`.
    let recent = unsafe { &mut *recent };
    for event in &mut recent.events {
        if event.sk == sk && event.states == states(step) {
            event.states = 0;
            return true;
        }
    }
    false
}
