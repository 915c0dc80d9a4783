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
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::AbortOnData,
        Self::AbortOnClose,
        Self::AbortOnLinger,
        Self::AbortOnMemory,
        Self::State,
        Self::Keepalive,
        Self::DisconnectWithData,
    ];

    /// The kernel's name, after `SK_RST_REASON_`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AbortOnData => "TCP_ABORT_ON_DATA",
            Self::AbortOnClose => "TCP_ABORT_ON_CLOSE",
            Self::AbortOnLinger => "TCP_ABORT_ON_LINGER",
            Self::AbortOnMemory => "TCP_ABORT_ON_MEMORY",
            Self::State => "TCP_STATE",
            Self::Keepalive => "TCP_KEEPALIVE_TIMEOUT",
            Self::DisconnectWithData => "TCP_DISCONNECT_WITH_DATA",
        }
    }

    /// The reason with the kernel's name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = name.strip_prefix("SK_RST_REASON_")?;
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// The reset reasons of the running kernel, by number; empty if it reports none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons(Vec<(u8, Reason)>);

impl From<Vec<(u8, Reason)>> for Reasons {
    fn from(numbered: Vec<(u8, Reason)>) -> Self {
        Self(numbered)
    }
}

impl Reasons {
    /// Keeps the known reasons of the kernel's numbers and names.
    #[must_use]
    pub fn new(names: &[(u8, String)]) -> Self {
        let known = names
            .iter()
            .filter_map(|(number, name)| Some((*number, Reason::named(name)?)));
        Self(known.collect())
    }

    /// All of them, with their numbers.
    #[must_use]
    pub fn numbered(&self) -> &[(u8, Reason)] {
        &self.0
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
