//! What is said around the pages.

use tcpwatch_common::TcpState;

use super::facts::Facts;
use super::names::Names;
use crate::model::ending::Ending;

/// The words of one language.
#[derive(Debug)]
pub struct Words {
    /// Before the topics beside one.
    pub see: &'static str,
    /// Between them.
    pub comma: &'static str,
    /// Under a list of topics.
    pub more: &'static str,
    /// What a state is called, by whom.
    pub names: fn(Names) -> String,
    /// How other commands tell an ending, and whether a timewait socket remains.
    pub told_as: fn(Ending, Remains) -> String,
    /// What a setting is where nobody sets it, since when, and whose it is.
    pub defaults: fn(Facts) -> String,
}

/// Whether an ending leaves a timewait socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remains {
    /// One in this state.
    In(TcpState),
    /// None.
    Nothing,
    /// Nobody knows.
    Unknown,
}

impl Remains {
    /// Of `ending`.
    #[must_use]
    pub fn of(ending: Ending) -> Self {
        match (ending, ending.timewait()) {
            (Ending::Unknown, _) => Self::Unknown,
            (_, Some(state)) => Self::In(state),
            (_, None) => Self::Nothing,
        }
    }
}
