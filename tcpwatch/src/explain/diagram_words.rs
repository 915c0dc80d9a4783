//! The words around the state diagram.

use super::step::Step;

/// The words of one language. `{}` is a placeholder for a number or a time.
#[derive(Debug)]
pub struct Diagram {
    /// The label of a step beside its arrow.
    pub step: fn(Step) -> &'static str,
    /// Heading of the path of the side that closes first.
    pub active: &'static str,
    /// Heading of the path of the other side.
    pub passive: &'static str,
    /// Note on transitions from any state to CLOSE.
    pub any: &'static str,
    /// Legend of the numbers in the boxes.
    pub now: &'static str,
    /// The same for several network namespaces.
    pub now_of_several: &'static str,
    /// Formats a time in seconds.
    pub length: fn(f64) -> String,
    /// Shown while steps are counted.
    pub counting: &'static str,
    /// Legend of the numbers at the arrows.
    pub during: &'static str,
    /// Before the transitions without an arrow.
    pub others: &'static str,
    /// Between two of these transitions.
    pub comma: &'static str,
    /// Number of connections closed here first that became timewait sockets before the peer closed.
    pub closed_first: &'static str,
    /// Number of refused timewait sockets.
    pub refused: &'static str,
    /// Number of connections with an unknown ending.
    pub undecided: &'static str,
    /// Number of missed transitions.
    pub missed: &'static str,
    /// Hint: root is needed for numbers at the arrows.
    pub with_root: &'static str,
}
