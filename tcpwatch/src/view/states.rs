//! Names of states above columns, and colours of states. Colours repeat the names: text without colour loses no information.

use anstyle::{AnsiColor, Style};
use tcpwatch_common::TcpState;

/// The name above a column: that of the kernel, but `ESTAB` as in `ss`.
#[must_use]
pub const fn column(state: TcpState) -> &'static str {
    match state {
        TcpState::Established => "ESTAB",
        state => state.name(),
    }
}

/// The name above a narrow column, at most five characters.
#[must_use]
pub const fn short(state: TcpState) -> &'static str {
    match state {
        TcpState::Established => "estab",
        TcpState::SynSent => "syn_s",
        TcpState::SynRecv => "syn_r",
        TcpState::FinWait1 => "fin1",
        TcpState::FinWait2 => "fin2",
        TcpState::TimeWait => "tw",
        TcpState::Close => "close",
        TcpState::CloseWait => "clwt",
        TcpState::LastAck => "lack",
        TcpState::Listen => "lstn",
        TcpState::Closing => "clsg",
    }
}

/// The colour of a state: open green, closing yellow, closed cyan, opening magenta, listening blue; `CLOSE_WAIT`, which waits for the
/// application, red.
#[must_use]
pub const fn style(state: TcpState) -> Style {
    let colour = match state {
        TcpState::Established => AnsiColor::Green,
        TcpState::SynSent | TcpState::SynRecv => AnsiColor::Magenta,
        TcpState::FinWait1 | TcpState::FinWait2 | TcpState::LastAck | TcpState::Closing => AnsiColor::Yellow,
        TcpState::TimeWait | TcpState::Close => AnsiColor::Cyan,
        TcpState::CloseWait => AnsiColor::Red,
        TcpState::Listen => AnsiColor::Blue,
    };
    colour.on_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_short_and_distinct() {
        let mut names: Vec<_> = TcpState::ALL.into_iter().map(short).collect();
        assert!(names.iter().all(|name| name.len() <= 5));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TcpState::ALL.len());
    }
}
