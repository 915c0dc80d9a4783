//! How states look: short names for narrow columns, and colours, which never say anything that a name does not.

use anstyle::{AnsiColor, Style};
use tcpwatch_common::TcpState;

/// The name above a column: the kernel's, but for `ESTAB`, as `ss` has it.
#[must_use]
pub const fn column(state: TcpState) -> &'static str {
    match state {
        TcpState::Established => "ESTAB",
        state => state.name(),
    }
}

/// The name above a narrow column, five characters at most.
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

/// The colour of a state: open green, waiting for our application red, closing yellow, closed cyan, opening magenta.
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
