//! The kernel's reasons for sending resets, and their numbers.

/// Why the kernel sent a reset (`enum sk_rst_reason`, include/net/rstreason.h; set for active resets since Linux 6.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `TCP_ABORT_ON_DATA`: data arrived after `close()`.
    AbortOnData,
    /// `TCP_ABORT_ON_CLOSE`: `close()` with unread data.
    AbortOnClose,
    /// `TCP_ABORT_ON_LINGER`: a negative `TCP_LINGER2`.
    AbortOnLinger,
    /// `TCP_ABORT_ON_MEMORY`: too many orphans, or no memory.
    AbortOnMemory,
    /// `TCP_STATE`: disconnected or aborted in a state in which the peer needs a reset.
    State,
    /// `TCP_KEEPALIVE_TIMEOUT`.
    Keepalive,
    /// `TCP_DISCONNECT_WITH_DATA`: disconnected with unsent data.
    DisconnectWithData,
}

impl Reason {
    /// The reason with the kernel's name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name.strip_prefix("SK_RST_REASON_")? {
            "TCP_ABORT_ON_DATA" => Self::AbortOnData,
            "TCP_ABORT_ON_CLOSE" => Self::AbortOnClose,
            "TCP_ABORT_ON_LINGER" => Self::AbortOnLinger,
            "TCP_ABORT_ON_MEMORY" => Self::AbortOnMemory,
            "TCP_STATE" => Self::State,
            "TCP_KEEPALIVE_TIMEOUT" => Self::Keepalive,
            "TCP_DISCONNECT_WITH_DATA" => Self::DisconnectWithData,
            _ => return None,
        })
    }
}

/// The reset reasons of the running kernel, by number; empty if it reports none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons(Vec<(u8, Reason)>);

impl Reasons {
    /// Keeps the known reasons of the kernel's numbers and names.
    #[must_use]
    pub fn new(names: &[(u8, String)]) -> Self {
        let known = names
            .iter()
            .filter_map(|(number, name)| Some((*number, Reason::named(name)?)));
        Self(known.collect())
    }

    /// The reason with `number`; `None` if unknown.
    #[must_use]
    pub fn get(&self, number: u8) -> Option<Reason> {
        self.0
            .iter()
            .find(|(known, _)| *known == number)
            .map(|(_, reason)| *reason)
    }
}
