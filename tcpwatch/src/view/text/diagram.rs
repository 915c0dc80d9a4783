//! The diagram of states and the steps between them (RFC 9293, figure 5), with numbers where there are any.

use std::io::{self, Write};

use anstyle::Style;
use tcpwatch_common::TcpState;

use super::canvas::Canvas;
use super::explain::columns;
use super::wrap::wrap;
use crate::explain;
use crate::explain::diagram::Diagram;
use crate::explain::lang::Lang;
use crate::explain::step::{Step, others};
use crate::model::counts::StateCounts;
use crate::model::ending::Ending;
use crate::model::stat::StatFrame;
use crate::view::number::{QUIET, duration, short, thousands};
use crate::view::screen::Screen;

/// The numbers in a diagram.
#[derive(Clone, Copy, Debug)]
pub enum Numbers<'a> {
    /// None.
    None,
    /// Sockets in each state now.
    Now(&'a StateCounts),
    /// Those, and what happened until now.
    During(&'a StatFrame),
}

/// States and ways, in 79 columns.
const ART: [&str; 41] = [
    "                              ┌──────────────────┐",
    "                              │ CLOSE            │",
    "                              └───┬──────────┬───┘",
    "                                  │          │",
    "          ┌───────────────────────┘          └───────────────────────┐",
    "          ▼                                                          ▼",
    "┌──────────────────┐                                       ┌──────────────────┐",
    "│ LISTEN           │                                       │ SYN_SENT         │",
    "└─────────┬────────┘                                       └───┬──────────┬───┘",
    "          │                                                    │          │",
    "          ▼                                                    │          │",
    "┌──────────────────┐                                           │          │",
    "│ SYN_RECV         │◄──────────────────────────────────────────┘          │",
    "└─────────┬────────┘                                                      │",
    "          │                                                               │",
    "          └───────────────────────┐          ┌────────────────────────────┘",
    "                                  ▼          ▼",
    "                              ┌──────────────────┐",
    "                              │ ESTABLISHED      │",
    "                              └───┬──────────┬───┘",
    "                                  │          │",
    "          ┌───────────────────────┘          └───────────────────────┐",
    "          ▼                                                          ▼",
    "┌──────────────────┐          ┌──────────────────┐         ┌──────────────────┐",
    "│ FIN_WAIT1        ├─────────►│ CLOSING          │         │ CLOSE_WAIT       │",
    "└─────────┬────────┘          └─────────┬────────┘         └─────────┬────────┘",
    "          │                             │                            │",
    "          │                             │                            │",
    "          ▼                             │                            ▼",
    "┌──────────────────┐                    │                  ┌──────────────────┐",
    "│ FIN_WAIT2        │                    │                  │ LAST_ACK         │",
    "└─────────┬────────┘                    │                  └─────────┬────────┘",
    "          │                             │                            │",
    "          └────────────────────────┐    │                            │",
    "                                   ▼    ▼                            │",
    "                              ┌──────────────────┐                   │",
    "                              │ TIME_WAIT        │                   │",
    "                              └─────────┬────────┘                   │",
    "                                        │                            │",
    "                                        ▼                            ▼",
    "                                      CLOSE                        CLOSE",
];

/// Columns between the left side of a box and its name.
const NAME: usize = 2;
/// Columns between the left side of a box and the end of its number.
const NUMBER: usize = 18;

/// Row and column of the box of `state`.
const fn place(state: TcpState) -> (usize, usize) {
    const LEFT: usize = 0;
    const MIDDLE: usize = 30;
    const RIGHT: usize = 59;
    match state {
        TcpState::Close => (0, MIDDLE),
        TcpState::Listen => (6, LEFT),
        TcpState::SynSent => (6, RIGHT),
        TcpState::SynRecv => (11, LEFT),
        TcpState::Established => (17, MIDDLE),
        TcpState::FinWait1 => (23, LEFT),
        TcpState::Closing => (23, MIDDLE),
        TcpState::CloseWait => (23, RIGHT),
        TcpState::FinWait2 => (29, LEFT),
        TcpState::LastAck => (29, RIGHT),
        TcpState::TimeWait => (35, MIDDLE),
    }
}

/// Where words stand beside an arrow.
#[derive(Clone, Copy)]
enum Beside {
    /// From this column on.
    From(usize, usize),
    /// Until before this column.
    Until(usize, usize),
    /// Above and below a short one.
    Around(usize, usize),
}

/// Row and column of the words of `step`.
const fn beside(step: Step) -> Beside {
    match step {
        Step::Listen => Beside::Until(3, 33),
        Step::Connect => Beside::From(3, 47),
        Step::Request => Beside::From(9, 12),
        Step::CrossedSyn => Beside::From(11, 30),
        Step::Answered => Beside::Until(13, 73),
        Step::Accepted => Beside::From(14, 12),
        Step::CloseFirst => Beside::Until(20, 33),
        Step::PeerCloses => Beside::From(20, 47),
        Step::Acknowledged => Beside::From(26, 12),
        Step::CrossedFin => Beside::Around(24, 21),
        Step::PeerClosesToo => Beside::From(32, 12),
        Step::CrossedAcknowledged => Beside::From(26, 42),
        Step::CloseToo => Beside::Until(27, 68),
        Step::Expired => Beside::From(38, 42),
        Step::LastAcknowledged => Beside::Until(32, 68),
    }
}

/// Writes the diagram with `numbers`, and what they are.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut impl Write, numbers: Numbers<'_>, lang: Lang, screen: Screen) -> io::Result<()> {
    let words = explain::diagram(lang);
    for line in draw(words, numbers, screen).lines() {
        writeln!(out, "{line}")?;
    }
    writeln!(out)?;
    for text in notes(words, numbers) {
        for line in wrap(&text, columns(screen)) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

fn draw(words: &Diagram, numbers: Numbers<'_>, screen: Screen) -> Canvas {
    let (now, during) = match numbers {
        Numbers::None => (None, None),
        Numbers::Now(now) => (Some(now), None),
        Numbers::During(frame) => (Some(&frame.connections), Some(frame)),
    };
    let plain = Style::new();
    let mut canvas = Canvas::new(&ART);
    for state in TcpState::ALL {
        let (row, column) = place(state);
        canvas.paint(row + 1, column + NAME, state.name().len(), screen.style(state));
        // Nobody lists the sockets in CLOSE.
        if let Some(now) = now
            && state != TcpState::Close
        {
            canvas.put_before(row + 1, column + NUMBER, &figure(Some(now.get(state))), plain);
        }
    }
    for step in Step::ALL {
        let label = (words.step)(step);
        let times = during.map(|frame| figure(step.taken(frame)));
        let both = match &times {
            Some(times) => format!("{label}  {times}"),
            None => label.to_owned(),
        };
        match beside(step) {
            Beside::From(row, column) => canvas.put(row, column, &both, plain),
            Beside::Until(row, end) => canvas.put_before(row, end, &both, plain),
            Beside::Around(row, column) => {
                canvas.put(row - 1, column, label, plain);
                canvas.put(row + 1, column, times.as_deref().unwrap_or_default(), plain);
            }
        }
    }
    canvas.put_before(19, 28, words.active, plain);
    canvas.put(19, 52, words.passive, plain);
    canvas
}

/// A number, in four columns at most.
fn figure(number: Option<u64>) -> String {
    match number {
        None => "?".into(),
        Some(0) => QUIET.into(),
        Some(number) => short(number),
    }
}

/// What is said under the diagram.
fn notes(words: &Diagram, numbers: Numbers<'_>) -> Vec<String> {
    let mut notes = vec![words.any.to_owned()];
    if !matches!(numbers, Numbers::None) {
        notes.push(words.now.to_owned());
    }
    let Numbers::During(frame) = numbers else {
        notes.push(words.with_root.to_owned());
        return notes;
    };
    notes.push(words.during.replace("{}", &length(frame.interval_s)));
    let counted = |words: &str, number: u64| (number > 0).then(|| words.replace("{}", &thousands(number)));
    notes.extend(counted(words.closed_first, frame.ends.get(Ending::ClosedFirst)));
    notes.extend(counted(words.refused, frame.time_wait.refused.unwrap_or(0)));
    let others: Vec<String> = others(frame)
        .map(|(from, to, times)| format!("{} > {} {}", from.name(), to.name(), thousands(times)))
        .collect();
    if !others.is_empty() {
        notes.push(format!("{} {}", words.others, others.join(", ")));
    }
    notes.extend(counted(words.missed, frame.missed.unwrap_or(0)));
    notes
}

/// A length of time of `seconds`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an interval is no negative time, and far below 500 years"
)]
fn length(seconds: f64) -> String {
    duration((seconds * 1e9) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::testing::frame;
    use crate::view::text::wrap::width;

    fn busy() -> StatFrame {
        let moves: Vec<_> = Step::ALL
            .into_iter()
            .map(|step| (step.ends().0, step.ends().1, 999_499))
            .collect();
        let mut frame = frame(
            &moves,
            &[
                (Ending::GracefulActive, 999_000),
                (Ending::ClosedFirst, 499),
                (Ending::Simultaneous, 999_499),
                (Ending::GracefulPassive, 999_499),
            ],
        );
        for state in TcpState::ALL {
            frame.connections.add(state, 999_499);
        }
        frame.time_wait.left = Some(999_499);
        frame
    }

    fn text(numbers: Numbers<'_>, lang: Lang) -> String {
        let mut out = Vec::new();
        write(&mut out, numbers, lang, Screen::plain(80)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn all_words_are_whole_and_fit_80_columns() {
        let frame = busy();
        for lang in Lang::ALL {
            for numbers in [Numbers::None, Numbers::Now(&frame.connections), Numbers::During(&frame)] {
                let text = text(numbers, lang);
                assert!(text.lines().all(|line| width(line) <= 80), "{text}");
                let words = explain::diagram(lang);
                for step in Step::ALL {
                    let label = (words.step)(step);
                    let alike = Step::ALL
                        .into_iter()
                        .filter(|&other| (words.step)(other).ends_with(label));
                    assert!(text.matches(label).count() >= alike.count(), "{label}: {text}");
                }
                assert!(text.contains(words.active) && text.contains(words.passive), "{text}");
            }
        }
    }

    #[test]
    fn lines_are_where_they_are_drawn_whatever_the_language() {
        let frame = busy();
        let places = |line: &str| -> Vec<(usize, char)> {
            line.char_indices()
                .filter(|(_, letter)| "┌┐└┘│─┬├▼◄►".contains(*letter))
                .map(|(at, letter)| (width(&line[..at]), letter))
                .collect()
        };
        for lang in Lang::ALL {
            let text = text(Numbers::During(&frame), lang);
            for (line, art) in text.lines().zip(ART) {
                assert_eq!(places(line), places(art), "{line}");
            }
        }
    }

    #[test]
    fn every_state_and_every_number_is_there() {
        let mut frame = busy();
        let drawn = text(Numbers::During(&frame), Lang::En);
        for state in TcpState::ALL {
            assert!(drawn.contains(state.name()), "{}", state.name());
        }
        assert_eq!(
            drawn.matches("999k").count(),
            10 + 15,
            "ten boxes, fifteen arrows: {drawn}"
        );
        assert!(drawn.contains("499 of those to TIME_WAIT"), "{drawn}");
        assert!(!drawn.contains("refused"), "{drawn}");
        frame.time_wait.left = None;
        frame.time_wait.refused = Some(1200);
        assert!(text(Numbers::During(&frame), Lang::En).contains("1,200 of them were refused"));
        assert!(text(Numbers::During(&frame), Lang::En).contains("60 s  ?"));
        let still = text(Numbers::Now(&frame.connections), Lang::En);
        assert_eq!(still.matches("999k").count(), 10, "{still}");
        assert!(still.contains("sudo tcpwatch explain states"));
    }

    #[test]
    fn what_has_no_arrow_is_told() {
        let frame = frame(
            &[
                (TcpState::Established, TcpState::Close, 1200),
                (TcpState::SynSent, TcpState::Close, 3),
            ],
            &[(Ending::ResetByPeer, 1200), (Ending::Refused, 3)],
        );
        let text = text(Numbers::During(&frame), Lang::En);
        assert!(
            text.contains("Not drawn, in that time: ESTABLISHED > CLOSE 1,200, SYN_SENT > CLOSE 3"),
            "{text}"
        );
        assert!(text.contains("in the last 1.0s"), "{text}");
    }
}
