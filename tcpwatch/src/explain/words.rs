//! The words around the pages.

use tcpwatch_common::TcpState;

use super::names::Names;
use crate::input::setting_defaults::SettingFacts;
use crate::model::ending::Ending;

/// The words of one language.
#[derive(Debug)]
pub struct Words {
    /// Before the list of related topics.
    pub see: &'static str,
    /// Between two related topics.
    pub comma: &'static str,
    /// Below the list of topics.
    pub more: &'static str,
    /// The names of a state in the kernel, in ss, in netstat and in the RFC.
    pub names: fn(Names) -> String,
    /// The names of an ending in text and JSON output, and whether a timewait socket remains.
    pub ending_names_line: fn(Ending, TimewaitSocket) -> String,
    /// The default of a setting, its history, and whether each network namespace has its own.
    pub defaults: fn(SettingFacts) -> String,
}

/// Whether an ending leaves a timewait socket on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimewaitSocket {
    /// A timewait socket in this state.
    In(TcpState),
    /// No timewait socket.
    None,
    /// Unknown.
    Unknown,
}

impl TimewaitSocket {
    /// The timewait socket after `ending`.
    #[must_use]
    pub fn left_by(ending: Ending) -> Self {
        match (ending, ending.timewait()) {
            (Ending::Unknown, _) => Self::Unknown,
            (_, Some(state)) => Self::In(state),
            (_, None) => Self::None,
        }
    }
}
