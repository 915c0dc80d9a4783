//! One body behind two hooks: counts a transition, moves the count of sockets, sends a record.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_log_ebpf::warn;
use tcpwatch_common::event::{self, DWELL_UNKNOWN, OPENED_ACTIVE, OPENED_PASSIVE, PORT_BOUND, PORT_CHOSEN};
use tcpwatch_common::evidence::{DEAD, DONE};
use tcpwatch_common::histogram::BY_NONE;
use tcpwatch_common::ledger::Count;
use tcpwatch_common::owner::HOW_UNKNOWN;
use tcpwatch_common::params::LIVES_AND_OPENINGS;
use tcpwatch_common::{Evidence, Ledger, Owner, TcpState, Transition};

use crate::cell::{bump, shift};
use crate::filter::{self, MATCH, NO_MATCH, UNDECIDED, Unknown};
use crate::hook::Hook;
use crate::lives::{self, Kept, Life};
use crate::maps::{COUNT, LEDGER};
use crate::params::param;
use crate::socket::{self, Traffic};
use crate::stories::Story;
use crate::{emit, ends, measure, owners};

/// `IPPROTO_TCP`.
pub(crate) const IPPROTO_TCP: u16 = 6;
const ESTABLISHED: u32 = TcpState::Established as u32;
const SYN_SENT: u32 = TcpState::SynSent as u32;
const CLOSE_WAIT: u32 = TcpState::CloseWait as u32;
const FIN_WAIT2: u32 = TcpState::FinWait2 as u32;
const SYN_RECV: u32 = TcpState::SynRecv as u32;
const CLOSE: u32 = TcpState::Close as u32;
const LISTEN: u32 = TcpState::Listen as u32;

/// State left and state entered.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) from: u32,
    pub(crate) to: u32,
}

impl Step {
    /// The transition of `hook`.
    #[inline(always)]
    fn of<H: Hook>(hook: &H) -> Self {
        let (from, to) = hook.states();
        Self { from, to }
    }

    /// The same, read again. What a branch has told of it the verifier then forgets, and need not follow each branch through all
    /// that comes after by itself: a start takes half as long. Not on the classic hook, where it knows less of what it reads.
    #[inline(always)]
    fn again<H: Hook>(self, hook: &H) -> Self {
        if H::MARKS { Self::of(hook) } else { self }
    }

    /// connect().
    #[inline(always)]
    pub(crate) fn is_opening(self) -> bool {
        self.from == CLOSE && self.to == SYN_SENT
    }

    /// listen().
    #[inline(always)]
    pub(crate) fn is_listening(self) -> bool {
        self.from == CLOSE && self.to == LISTEN
    }

    /// A listener's child: the listener itself stays where it is.
    #[inline(always)]
    pub(crate) fn is_child(self) -> bool {
        self.from == LISTEN && self.to == SYN_RECV
    }

    /// Another life begins. `CLOSE>CLOSE` (a listener that was killed) enters nothing.
    #[inline(always)]
    fn is_birth(self) -> bool {
        self.from == CLOSE && self.to != CLOSE || self.is_child()
    }

    /// A connection ends; a listener is none.
    #[inline(always)]
    fn is_end(self) -> bool {
        self.to == CLOSE && self.from != LISTEN && self.from != CLOSE
    }

    /// Nothing comes after it in this life.
    #[inline(always)]
    fn is_last(self) -> bool {
        self.to == CLOSE
    }
}

/// What a hook saw: the whole of a transition, for both hooks.
#[inline(always)]
pub(crate) fn run<H: Hook>(hook: &H) {
    if hook.protocol() != IPPROTO_TCP {
        return;
    }
    let netns = hook.netns();
    if !filter::admits(netns, hook.family()) {
        return;
    }
    let step = Step::of(hook);
    // SAFETY: the helper takes nothing and gives a number.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(ledger) = LEDGER.get_ptr_mut(cpu) else { return };
    // SAFETY: this CPU's entry. Where the kernel lets a run of this program interrupt another, `bump` counts atomically.
    let ledger: &mut Ledger = unsafe { &mut *ledger };
    let Some(&count) = COUNT.get(0) else { return };
    let count = Count(count);

    let stream = param!(PARAMS.stream) != 0;
    let stories = param!(PARAMS.stories) != 0;
    // SAFETY: the helper takes nothing and gives a number.
    let now = if stories { unsafe { bpf_ktime_get_ns() } } else { 0 };
    // Where every socket is in the count, transitions alone keep it right, and nothing need be remembered.
    let by_marks = H::MARKS && (count.is_marking() || filter::looks_at_ends());
    let remember = stories || by_marks || filter::looks_at_ends();
    let err = if hook.known() && !step.is_last() {
        socket::err(hook.sk())
    } else {
        0
    };
    // What must be remembered all the same, to tell how the connection ended: both are rare.
    let leftover = err != 0 || step.is_opening() && hook.stale_port() != 0;
    // A socket first seen when it closes needs no memory, nor one that the filter does not want.
    // What is left of an earlier life is no part of this one.
    let mut kept = if remember || leftover || step.is_end() || step.is_birth() {
        hook.kept((remember || leftover) && !filter::looks_at_ends() && !step.is_last())
    } else {
        Kept::nothing()
    };
    if step.is_birth() {
        kept.begin();
    }

    let step = step.again(hook);
    let failed_connect = step.from == SYN_SENT && step.is_last();
    let mut lport = 0;
    let mut unknown = Unknown::NOTHING;
    if stories || filter::looks_at_ends() || failed_connect {
        let stale_sport = kept.life.as_ref().map_or(0, |life| life.stale_sport);
        (lport, unknown.lport) = local_port(hook, step, stale_sport);
        // Before Linux 6.15 a child is announced before its peer is filled in.
        unknown.peer = param!(PARAMS.late_peers) != 0 && step.is_child() && hook.ends(lport).rport == 0;
    }
    // Also of a listener that the filter does not want: its children may be wanted.
    if stories && step.from == LISTEN && step.is_last() {
        owners::unlistens(netns, lport);
    }
    let step = step.again(hook);
    let mut verdict = MATCH;
    if filter::looks_at_ends() {
        verdict = kept.life.as_ref().map_or(UNDECIDED, |life| life.verdict);
        if verdict == UNDECIDED {
            verdict = filter::judge(&hook.ends(lport), unknown);
        }
        // A close is the last that will be known.
        if verdict == NO_MATCH || verdict == UNDECIDED && step.is_last() {
            if let Some(life) = &mut kept.life {
                life.verdict = NO_MATCH;
                release(life, ledger);
            }
            if stories && step.is_listening() {
                owners::listens_untold::<H::Sk>(netns, lport);
            }
            if step.is_last() {
                hook.forget();
            }
            return;
        }
        if kept.life.is_none() && !step.is_last() {
            kept = hook.kept(true);
        }
    }
    let step = step.again(hook);
    let evidence = if step.is_end() {
        let evidence = ends::evidence(hook, kept.life.as_deref(), step, failed_connect && unknown.lport);
        if filter::wants(step.from, step.to) {
            ends::count(cpu, evidence);
        }
        // A reset that is still to come must find what it belongs to.
        if kept.life.is_none() && ends::may_go_on(evidence) {
            kept = hook.kept(true);
            if kept.life.is_none() {
                bump(&mut ledger.unheard_resets);
            }
        }
        evidence
    } else {
        Evidence {
            from: if step.is_last() { step.from as u8 } else { 0 },
            ..Evidence::default()
        }
    };
    if remember && kept.life.is_none() && !step.is_last() {
        bump(&mut ledger.unremembered);
        warn!(
            hook.context(),
            "no room to remember a socket, going from state {} to {}", step.from, step.to
        );
    }

    // There may be no room, and then no id: nothing says that the socket's next transition is the same one's.
    let mut scratch = MaybeUninit::uninit();
    let remembered = kept.life.is_some();
    let mut story = kept.story;
    let life = match kept.life {
        Some(life) => life,
        None => Life::clear(&mut scratch),
    };
    life.verdict = verdict;
    life.err = err;
    if stream && life.id == 0 && (remembered || step.is_last()) {
        life.id = lives::number(ledger, cpu, now);
    }
    let step = step.again(hook);
    if step.is_opening() {
        life.opened = OPENED_ACTIVE;
        life.stale_sport = hook.stale_port();
        if hook.known() {
            life.port = if hook.bound_port() == 0 {
                PORT_CHOSEN
            } else {
                PORT_BOUND
            };
        }
    } else if step.is_child() {
        life.opened = OPENED_PASSIVE;
    }
    if step.is_last() {
        life.told = 1;
        let counted = ends::is_end(evidence) && filter::wants(step.from, step.to);
        life.end = if counted { evidence.key() } else { 0 };
    }

    let step = step.again(hook);
    if let Some(story) = &mut story {
        owners::follow(hook, story, step, netns, lport);
    } else if stories && step.is_listening() {
        owners::listens_untold::<H::Sk>(netns, lport);
    }
    // What cannot be decided waits for what will be known; so does, for people to read it, a child without its peer. Where neither
    // can be, the verifier need not follow it.
    let may_hold = filter::looks_at_ends() || param!(PARAMS.late_peers) != 0;
    if may_hold && (verdict == UNDECIDED || stream && unknown.peer && remembered) {
        hold(life, ledger, step, now);
        return;
    }

    let step = step.again(hook);
    let held = if may_hold { release(life, ledger) } else { 0 };
    bump(&mut ledger.transitions);
    if !by_marks {
        move_by_states(ledger, count, step, held != 0);
    } else if remembered {
        move_by_mark(life, ledger, count, step);
    }
    let step = step.again(hook);
    let dwell_ns = dwell(life, now, step);
    if let Some(story) = &mut story
        && dwell_ns != DWELL_UNKNOWN
        && step.from != step.to
    {
        story.spend(step.from, dwell_ns);
    }
    if param!(PARAMS.histograms) != BY_NONE && step.from != step.to && filter::wants(step.from, step.to) {
        measure::step(hook, life.opened, story.as_deref(), step, lport, dwell_ns, now, ledger);
    }
    let step = step.again(hook);
    let now = Now {
        hook,
        life,
        story: story.as_deref(),
        netns,
        lport,
        peer_unknown: unknown.peer,
        step,
        time_ns: now,
        dwell_ns,
        evidence,
    };
    if may_hold && held != 0 {
        let opening = Now {
            step: Step {
                from: held >> 4,
                to: held & 15,
            },
            time_ns: now.life.held_ns,
            dwell_ns: DWELL_UNKNOWN,
            evidence: Evidence::default(),
            ..now
        };
        report(&opening, ledger);
    }
    report(&now, ledger);
    if param!(PARAMS.lives) != 0 && step.is_last() && ends::is_end(evidence) && filter::wants(step.from, step.to) {
        tell(&now, ledger);
    }
    if step.is_last() && !ends::may_go_on(evidence) {
        hook.forget();
    }
}

/// All there is to tell of one transition. The records are written from it straight into the ring: the stack has no room.
#[derive(Clone, Copy)]
struct Now<'a, H> {
    hook: &'a H,
    life: &'a Life,
    story: Option<&'a Story>,
    netns: u32,
    lport: u16,
    peer_unknown: bool,
    step: Step,
    time_ns: u64,
    dwell_ns: u64,
    evidence: Evidence,
}

impl<H: Hook> Now<'_, H> {
    /// Writes the record of the transition to `place`, all of it.
    #[inline(always)]
    fn write(&self, place: &mut Transition) {
        let (ifindex, cookie) = self.hook.extras();
        let ends = self.hook.ends(self.lport);
        place.time_ns = self.time_ns;
        place.id = self.life.id;
        // A child whose peer is not filled in yet still carries its listener's cookie.
        place.cookie = if self.peer_unknown { 0 } else { cookie };
        place.dwell_ns = self.dwell_ns;
        place.local = ends.local;
        place.remote = ends.remote;
        place.netns = self.netns;
        place.ifindex = ifindex;
        place.lport = ends.lport;
        place.rport = ends.rport;
        place.family = ends.family;
        place.from = self.step.from as u8;
        place.to = self.step.to as u8;
        place.opened = self.life.opened;
        place.evidence = self.evidence;
        place.owner = match self.story {
            Some(story) => story.owner,
            None => Owner::UNKNOWN,
        };
        // Who has not closed it may have its descriptor still, and is found by its number.
        let stays_open =
            self.step.is_last() && matches!(self.step.from, CLOSE_WAIT | FIN_WAIT2) && self.evidence.flags & DEAD == 0;
        place.inode = if (place.owner.how == HOW_UNKNOWN || stays_open) && self.hook.known() {
            socket::inode(self.hook.sk())
        } else {
            0
        };
        place.port = self.life.port;
        place.reserved = [0; 3];
    }
}

/// Sends the whole of a life, whose last transition this is.
#[inline(always)]
fn tell<H: Hook>(now: &Now<'_, H>, ledger: &mut Ledger) {
    emit::send::<event::Life>(ledger, |place| {
        // SAFETY: the entry is reserved and of this type; every field is written.
        let place = unsafe { &mut *place };
        now.write(&mut place.last);
        place.spent_ns = [0; 8];
        place.closer_pid = 0;
        place.closer_comm = [0; 16];
        if let Some(story) = now.story {
            place.spent_ns = story.spent_ns;
            place.closer_pid = story.closer_pid;
            place.closer_comm = story.closer_comm;
        }
        let traffic = if now.hook.known() {
            socket::traffic(now.hook.sk())
        } else {
            None
        };
        place.counted = traffic.is_some() as u32;
        let traffic = traffic.unwrap_or(Traffic::NONE);
        // The peer's FIN takes a number in its sequence (RFC 9293, 3.4), and the kernel counts it.
        let fin = (now.evidence.flags & DONE != 0) as u64;
        place.bytes_sent = traffic.sent;
        place.bytes_acked = traffic.acked;
        place.in_flight = traffic.in_flight;
        place.unsent = traffic.unsent;
        place.bytes_received = traffic.received.saturating_sub(fin);
        place.srtt_us = traffic.srtt_us;
        place.retransmits = traffic.retransmits;
    });
}

/// Counts the transition, and sends it where there is a stream of them.
#[inline(always)]
fn report<H: Hook>(now: &Now<'_, H>, ledger: &mut Ledger) {
    let (from, to) = (now.step.from, now.step.to);
    if filter::wants(from, to) {
        bump(&mut ledger.moves[from as usize & 15][to as usize & 15]);
        let lives = param!(PARAMS.lives);
        if param!(PARAMS.stream) != 0 && (lives == 0 || lives == LIVES_AND_OPENINGS && to == ESTABLISHED) {
            // SAFETY: the entry is reserved and of this type; every field is written.
            emit::send::<Transition>(ledger, |place| now.write(unsafe { &mut *place }));
        }
    }
}

/// The connection's local port, host order, and whether it is unknown: not chosen yet, or only an older one is there.
#[inline(always)]
fn local_port<H: Hook>(hook: &H, step: Step, stale_sport: u16) -> (u16, bool) {
    let bound = hook.bound_port();
    if bound != 0 {
        return (bound, false);
    }
    if step.from == CLOSE {
        return (0, true);
    }
    // The binding goes before the last transition; the port it had stays in `inet_sport`.
    let source = hook.source_port();
    let failed_connect = step.from == SYN_SENT && step.is_last();
    if source == 0 || failed_connect && source == stale_sport {
        return (0, true);
    }
    (u16::from_be(source), false)
}

/// Keeps an opening with its socket.
#[inline(always)]
fn hold(life: &mut Life, ledger: &mut Ledger, step: Step, now: u64) {
    life.held_ns = now;
    life.entered_ns = now;
    life.held_move = (step.from << 4 | step.to) as u8;
    bump(&mut ledger.held);
}

/// Takes the opening that was held, which is decided now: its states as held, 0 for none.
#[inline(always)]
fn release(life: &mut Life, ledger: &mut Ledger) -> u32 {
    let held = life.held_move as u32;
    if held != 0 {
        life.held_move = 0;
        bump(&mut ledger.released);
    }
    held
}

/// Time spent in the state left, and the start of the time in the one entered.
#[inline(always)]
fn dwell(life: &mut Life, now: u64, step: Step) -> u64 {
    let entered = life.entered_ns;
    // A self-transition enters nothing.
    if step.from != step.to {
        life.entered_ns = now;
    }
    if step.is_birth() || entered == 0 {
        DWELL_UNKNOWN
    } else {
        // The clock of one CPU may be a little behind another's.
        now.saturating_sub(entered)
    }
}

/// Moves the count by what the transition says; an opening that was held has not been counted.
#[inline(always)]
fn move_by_states(ledger: &mut Ledger, count: Count, step: Step, held: bool) {
    let sockets = &mut ledger.sockets[count.bank()];
    if !held && !step.is_child() && step.from != CLOSE {
        shift(&mut sockets[step.from as usize & 15], -1);
    }
    if !step.is_last() {
        shift(&mut sockets[step.to as usize & 15], 1);
    }
}

/// Moves the count by the socket's mark, and the mark with it. A socket without one is in no count yet, whatever state it
/// leaves: the walk that is under way has not come to it.
#[inline(always)]
fn move_by_mark(life: &mut Life, ledger: &mut Ledger, count: Count, step: Step) {
    let sockets = &mut ledger.sockets[count.bank()];
    if life.counted != 0 && life.epoch == count.epoch() {
        shift(&mut sockets[life.counted as usize & 15], -1);
    }
    life.epoch = count.epoch();
    life.counted = 0;
    if !step.is_last() {
        life.counted = step.to as u8;
        shift(&mut sockets[step.to as usize & 15], 1);
    }
}
