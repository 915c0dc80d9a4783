//! The diagram of the states and the steps between them (RFC 9293, figure 5), with counts if there are any.

use std::io::{self, Write};

use anstyle::Style;
use tcpwatch_common::TcpState;

use super::canvas::Canvas;
use super::explain::columns;
use super::fit::{padded, width};
use super::wrap::wrap;
use crate::explain;
use crate::explain::diagram_words::Diagram;
use crate::explain::lang::Lang;
use crate::explain::step::{Step, StepCount, others};
use crate::model::counts::StateCounts;
use crate::model::ending::Ending;
use crate::model::format::{quiet_short, thousands};
use crate::model::stat::StatFrame;
use crate::view::screen::Screen;

/// The counts that a diagram shows.
#[derive(Clone, Copy, Debug)]
pub enum Numbers<'a> {
    /// No counts.
    None,
    /// Sockets now in each state, of this network namespace.
    Now(&'a StateCounts),
    /// Sockets now in each state, and the transitions of the interval before.
    During(&'a StatFrame),
}

impl<'a> Numbers<'a> {
    const fn now(self) -> Option<&'a StateCounts> {
        match self {
            Self::None => None,
            Self::Now(now) => Some(now),
            Self::During(frame) => Some(&frame.connections),
        }
    }

    /// How often `step` was taken; `None` if steps were not counted.
    fn times_taken(self, step: Step) -> Option<String> {
        let Self::During(frame) = self else { return None };
        Some(match step.taken(frame) {
            StepCount::Exactly(times) => quiet_short(times),
            StepCount::AtLeast(times) => format!("{}+", quiet_short(times)),
            StepCount::Unknown => "?".into(),
        })
    }
}

/// Width of the drawing, columns.
const WIDTH: usize = 79;

/// The drawing without labels and counts.
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

/// Columns from the left edge of a box to the name of the state.
const NAME: usize = 2;
/// Columns from the left edge of a box to the end of the count.
const NUMBER: usize = 18;

/// Row and column of the upper left corner of the box of `state`.
const fn box_position(state: TcpState) -> (usize, usize) {
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

/// Where the label and the count of an arrow are placed; row and column.
#[derive(Clone, Copy)]
enum LabelPosition {
    /// Starting at this column.
    From(usize, usize),
    /// Ending before this column.
    Until(usize, usize),
    /// The label above and the count below a short arrow.
    Around(usize, usize),
}

/// Position of the label of `step`.
const fn label_position(step: Step) -> LabelPosition {
    match step {
        Step::Listen => LabelPosition::Until(3, 33),
        Step::Connect => LabelPosition::From(3, 47),
        Step::Request => LabelPosition::From(9, 12),
        Step::CrossedSyn => LabelPosition::From(11, 30),
        Step::Answered => LabelPosition::Until(13, 73),
        Step::Accepted => LabelPosition::From(14, 12),
        Step::CloseFirst => LabelPosition::Until(20, 33),
        Step::PeerCloses => LabelPosition::From(20, 47),
        Step::Acknowledged => LabelPosition::From(26, 12),
        Step::CrossedFin => LabelPosition::Around(24, 21),
        Step::PeerClosesToo => LabelPosition::From(32, 12),
        Step::CrossedAcknowledged => LabelPosition::From(26, 42),
        Step::CloseToo => LabelPosition::Until(27, 68),
        Step::Expired => LabelPosition::From(38, 42),
        Step::LastAcknowledged => LabelPosition::Until(32, 68),
    }
}

/// Writes to a terminal that steps are being counted for so many seconds.
///
/// # Errors
/// `out` cannot be written to.
pub fn write_counting(out: &mut impl Write, seconds: f64, lang: Lang, screen: Screen) -> io::Result<()> {
    let words = explain::diagram(lang);
    if screen.width.is_some() {
        writeln!(out, "{}", words.counting.replace("{}", &(words.length)(seconds)))?;
        out.flush()?;
    }
    Ok(())
}

/// Writes the diagram with `numbers`, and notes about them. A list replaces the drawing on a narrow screen.
///
/// Without counts at the arrows, a note advises to use root, unless the caller `is_root`.
///
/// # Errors
/// `out` cannot be written to.
pub fn write(out: &mut impl Write, numbers: Numbers<'_>, is_root: bool, lang: Lang, screen: Screen) -> io::Result<()> {
    let words = explain::diagram(lang);
    if screen.width.is_none_or(|width| width >= WIDTH) {
        for line in draw(words, numbers, screen).lines() {
            writeln!(out, "{line}")?;
        }
    } else {
        write_list(out, words, numbers, screen)?;
    }
    writeln!(out)?;
    for text in notes(words, numbers, is_root) {
        for line in wrap(&text, columns(screen)) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

fn draw(words: &Diagram, numbers: Numbers<'_>, screen: Screen) -> Canvas {
    let plain = Style::new();
    let mut canvas = Canvas::new(&ART);
    for state in TcpState::ALL {
        let (row, column) = box_position(state);
        canvas.paint(row + 1, column + NAME, state.name().len(), screen.style(state));
        if let Some(sockets) = sockets(numbers, state) {
            canvas.put_before(row + 1, column + NUMBER, &sockets, plain);
        }
    }
    for step in Step::ALL {
        let label = (words.step)(step);
        let times = numbers.times_taken(step);
        let text = match &times {
            Some(times) => format!("{label}  {times}"),
            None => label.to_owned(),
        };
        match label_position(step) {
            LabelPosition::From(row, column) => canvas.put(row, column, &text, plain),
            LabelPosition::Until(row, end) => canvas.put_before(row, end, &text, plain),
            LabelPosition::Around(row, column) => {
                canvas.put(row - 1, column, label, plain);
                canvas.put(row + 1, column, times.as_deref().unwrap_or_default(), plain);
            }
        }
    }
    canvas.put_before(19, 28, words.active, plain);
    canvas.put(19, 52, words.passive, plain);
    canvas
}

/// Writes each state, and below it the steps that leave it.
fn write_list(out: &mut impl Write, words: &Diagram, numbers: Numbers<'_>, screen: Screen) -> io::Result<()> {
    let label = |step| (words.step)(step);
    let widest = Step::ALL.into_iter().map(|step| width(label(step))).max().unwrap_or(0);
    let names = TcpState::ALL.into_iter().map(|state| state.name().len());
    let name = names.max().unwrap_or(0);
    let mut states: Vec<TcpState> = Vec::new();
    for from in Step::ALL.map(|step| step.ends().0) {
        if states.contains(&from) {
            continue;
        }
        states.push(from);
        let style = screen.style(from);
        let sockets = sockets(numbers, from).map_or_else(String::new, |sockets| format!("  {sockets}"));
        writeln!(out, "{style}{}{style:#}{sockets}", from.name())?;
        for step in Step::ALL.into_iter().filter(|step| step.ends().0 == from) {
            let to = step.ends().1.name();
            let times = numbers.times_taken(step).unwrap_or_default();
            let line = format!("  {} > {to:name$}  {times:>5}", padded(label(step), widest));
            if width(line.trim_end()) <= columns(screen) {
                writeln!(out, "{}", line.trim_end())?;
            } else {
                for line in wrap(
                    &format!("{} > {to}  {times}", label(step)),
                    columns(screen).saturating_sub(2),
                ) {
                    writeln!(out, "  {line}")?;
                }
            }
        }
    }
    Ok(())
}

/// Number of sockets in `state`; `None` where it is unknown. The kernel does not list sockets in `CLOSE`.
fn sockets(numbers: Numbers<'_>, state: TcpState) -> Option<String> {
    let now = numbers.now().filter(|_| state != TcpState::Close)?;
    Some(quiet_short(now.get(state)))
}

/// The notes below the diagram.
fn notes(words: &Diagram, numbers: Numbers<'_>, is_root: bool) -> Vec<String> {
    let mut notes = vec![words.any.to_owned()];
    match numbers {
        Numbers::None => {}
        Numbers::During(frame) if frame.namespace.is_none() => notes.push(words.now_of_several.to_owned()),
        Numbers::Now(_) | Numbers::During(_) => notes.push(words.now.to_owned()),
    }
    let Numbers::During(frame) = numbers else {
        if !is_root {
            notes.push(words.with_root.to_owned());
        }
        return notes;
    };
    notes.push(words.during.replace("{}", &(words.length)(frame.interval_s)));
    let counted = |words: &str, number: u64| (number > 0).then(|| words.replace("{}", &thousands(number)));
    notes.extend(counted(words.closed_first, frame.ends.get(Ending::ClosedFirst)));
    notes.extend(counted(words.refused, frame.time_wait.refused.unwrap_or(0)));
    let others: Vec<String> = others(frame)
        .map(|(from, to, times)| format!("{} > {} {}", from.name(), to.name(), thousands(times)))
        .collect();
    if !others.is_empty() {
        notes.push(format!("{}{}", words.others, others.join(words.comma)));
    }
    notes.extend(counted(words.undecided, frame.ends.get(Ending::Unknown)));
    notes.extend(counted(words.missed, frame.missed.unwrap_or(0)));
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::tests::quiet;
    use crate::explain::testing::frame;

    fn busy() -> StatFrame {
        let moves: Vec<_> = Step::ALL
            .into_iter()
            .map(|step| (step.ends().0, step.ends().1, 999_499))
            .collect();
        let mut frame = frame(
            &moves,
            &[
                (Ending::GracefulActive, 999_498),
                (Ending::ClosedFirst, 1),
                (Ending::Simultaneous, 999_499),
                (Ending::GracefulPassive, 999_499),
            ],
        );
        for state in TcpState::ALL {
            frame.connections.add(state, 999_499);
        }
        frame.time_wait.left = Some(999_499);
        frame.namespace = quiet().namespace;
        frame
    }

    fn text(numbers: Numbers<'_>, lang: Lang) -> String {
        let mut out = Vec::new();
        write(&mut out, numbers, false, lang, Screen::plain(80)).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The text in columns `from..end` of `line`.
    fn between(line: &str, from: usize, end: usize) -> String {
        let mut column = 0;
        let mut part = String::new();
        for letter in line.chars() {
            if (from..end).contains(&column) {
                part.push(letter);
            }
            column += width(&letter.to_string());
        }
        part
    }

    #[test]
    fn all_labels_are_whole_and_fit_80_columns() {
        let frame = busy();
        for lang in Lang::ALL {
            for numbers in [Numbers::None, Numbers::Now(&frame.connections), Numbers::During(&frame)] {
                let text = text(numbers, lang);
                assert!(text.lines().all(|line| width(line) <= 80), "{text}");
                let words = explain::diagram(lang);
                let lines: Vec<&str> = text.lines().collect();
                for step in Step::ALL {
                    let label = (words.step)(step);
                    let columns = width(label);
                    let shown = match (label_position(step), numbers.times_taken(step)) {
                        (LabelPosition::From(row, at), _) => between(lines[row], at, at + columns),
                        (LabelPosition::Around(row, at), _) => between(lines[row - 1], at, at + columns),
                        (LabelPosition::Until(row, end), None) => between(lines[row], end - columns, end),
                        (LabelPosition::Until(row, end), Some(times)) => {
                            let end = end - width(&times) - 2;
                            between(lines[row], end - columns, end)
                        }
                    };
                    assert_eq!(shown, label, "{step:?}: {text}");
                }
                assert!(text.contains(words.active) && text.contains(words.passive), "{text}");
            }
        }
    }

    #[test]
    fn arrows_and_boxes_are_intact_in_every_language() {
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
    fn every_state_and_every_count_is_drawn() {
        let mut frame = busy();
        let drawn = text(Numbers::During(&frame), Lang::En);
        for state in TcpState::ALL {
            assert!(drawn.contains(state.name()), "{}", state.name());
        }
        assert_eq!(
            drawn.matches("999k").count(),
            10 + 14,
            "ten boxes, fourteen arrows: {drawn}"
        );
        assert!(drawn.contains("SYN in, SYN-ACK out  ? "), "{drawn}");
        assert!(drawn.contains("arrived: 1."), "{drawn}");
        assert!(
            !drawn.contains("refused") && !drawn.contains("unknown ending"),
            "{drawn}"
        );
        frame.time_wait.left = None;
        frame.time_wait.refused = Some(1200);
        assert!(text(Numbers::During(&frame), Lang::En).contains("or no memory): 1,200."));
        assert!(text(Numbers::During(&frame), Lang::En).contains("60 s or less  ?"));
        let still = text(Numbers::Now(&frame.connections), Lang::En);
        assert_eq!(still.matches("999k").count(), 10, "{still}");
        assert!(still.contains("sudo tcpwatch explain states"));
        let mut by_root = Vec::new();
        write(
            &mut by_root,
            Numbers::Now(&frame.connections),
            true,
            Lang::En,
            Screen::plain(80),
        )
        .unwrap();
        assert!(!String::from_utf8(by_root).unwrap().contains("sudo"), "root knows");
    }

    /// As on a kernel without BTF, where namespaces are not distinguished and no ending is known.
    #[test]
    fn unknown_endings_count_neither_as_zero_nor_as_aborts() {
        let frame = StatFrame {
            namespace: None,
            ..frame(
                &[
                    (TcpState::FinWait2, TcpState::Close, 1_241),
                    (TcpState::LastAck, TcpState::Close, 1_241),
                ],
                &[(Ending::Unknown, 2_482)],
            )
        };
        let text = text(Numbers::During(&frame), Lang::En);
        assert!(
            text.contains("│ FIN in  ?") && text.contains("ACK of FIN in  ? │"),
            "{text}"
        );
        assert!(!text.contains("Not drawn"), "{text}");
        assert!(text.contains("Connections with an unknown ending: 2,482."), "{text}");
        assert!(text.contains("of all network namespaces"), "{text}");
    }

    #[test]
    fn a_narrow_screen_gets_a_list() {
        let frame = busy();
        for columns in [78, 60, 40] {
            for lang in Lang::ALL {
                let mut out = Vec::new();
                write(&mut out, Numbers::During(&frame), false, lang, Screen::plain(columns)).unwrap();
                let out = String::from_utf8(out).unwrap();
                let is_whole = |line: &str| !line.trim().contains(' ') || line.contains('`');
                assert!(
                    out.lines().all(|line| width(line) <= columns || is_whole(line)),
                    "{out}"
                );
                assert!(!out.contains('┌'), "{out}");
                let to = format!("> {}", TcpState::FinWait1.name());
                assert_eq!(out.matches(&to).count(), 1, "{out}");
                assert_eq!(out.matches("999k").count(), 10 + 14, "{out}");
            }
        }
    }

    #[test]
    fn a_terminal_shows_how_long_steps_are_counted() {
        let shown = |lang, screen| {
            let mut out = Vec::new();
            write_counting(&mut out, 60.0, lang, screen).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            shown(Lang::En, Screen::plain(80)),
            "counting for 60.0 s; Ctrl-C ends it\n"
        );
        assert_eq!(
            shown(Lang::Zh, Screen::plain(80)),
            "正在统计，共 60.0 秒；按 Ctrl-C 提前结束\n"
        );
        let piped = Screen {
            width: None,
            colour: false,
        };
        assert_eq!(shown(Lang::En, piped), "");
    }

    #[test]
    fn transitions_without_an_arrow_are_listed() {
        let frame = frame(
            &[
                (TcpState::Established, TcpState::Close, 1200),
                (TcpState::SynSent, TcpState::Close, 3),
            ],
            &[(Ending::ResetByPeer, 1200), (Ending::Refused, 3)],
        );
        let text = text(Numbers::During(&frame), Lang::En);
        assert!(
            text.contains("Not drawn, in the same time: ESTABLISHED > CLOSE 1,200, SYN_SENT > CLOSE 3"),
            "{text}"
        );
        assert!(text.contains("in the last 1.0 s."), "{text}");
    }
}
