//! The words around the state diagram.

use super::step::Step;

/// Those of one language; `{}` stands for a number or a length of time.
#[derive(Debug)]
pub struct Diagram {
    /// What happens in a step, in a few words beside its arrow.
    pub step: fn(Step) -> &'static str,
    /// Above the ways of the side that closes first.
    pub active: &'static str,
    /// Above those of the other.
    pub passive: &'static str,
    /// How any state may be left.
    pub any: &'static str,
    /// What the numbers in the boxes are.
    pub now: &'static str,
    /// The same, where they are of several network namespaces.
    pub now_of_several: &'static str,
    /// A length of time, of so many seconds.
    pub length: fn(f64) -> String,
    /// While steps are counted.
    pub counting: &'static str,
    /// What the numbers at the arrows are.
    pub during: &'static str,
    /// Before the transitions that have no arrow.
    pub others: &'static str,
    /// Between those.
    pub comma: &'static str,
    /// How many were closed here, and became timewait sockets before the peer closed.
    pub closed_first: &'static str,
    /// How many timewait sockets were refused.
    pub refused: &'static str,
    /// Of how many connections nobody knows how they ended.
    pub undecided: &'static str,
    /// How many transitions nobody counted.
    pub missed: &'static str,
    /// How to have numbers at the arrows.
    pub with_root: &'static str,
}
