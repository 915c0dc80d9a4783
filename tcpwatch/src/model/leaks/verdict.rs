//! What a group of stuck sockets may be.

/// What a group of stuck sockets is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are never closed.
    Leak,
    /// They are closed, late.
    Slow,
    /// Nobody reads what has come.
    StuckReader,
    /// They came together, and are being closed.
    Burst,
    /// Not known.
    Undecided(Doubt),
}

/// Why nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// One look shows no closings.
    OneLook,
    /// It takes a window this much longer, ns, to see closings if there are any.
    Window(u64),
    /// The oldest must be this much older, ns, to be later than late.
    Young(u64),
    /// The same, for they came together, and what is kept for later, as a pool does, may be closed together.
    Together(u64),
    /// So many left the state, and nobody knows how, or after what time.
    Unknown(u64),
    /// The kernel ends them by itself.
    KernelEnds,
    /// There still is data to send, for which the peer is waited for.
    Sends,
}

impl Verdict {
    /// The word in machine output.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Leak => "leak",
            Self::Slow => "slow",
            Self::StuckReader => "stuck_reader",
            Self::Burst => "burst",
            Self::Undecided(_) => "undecided",
        }
    }

    /// Whether the application must be mended: what `--fail-if-leak` asks for.
    #[must_use]
    pub const fn is_defect(self) -> bool {
        matches!(self, Self::Leak | Self::StuckReader)
    }
}
