//! The diagram of states and the steps between them (RFC 9293, figure 5), with numbers where there are any.

use std::io::{self, Write};

use anstyle::Style;
use tcpwatch_common::TcpState;

use super::canvas::Canvas;
use super::explain::columns;
use super::wrap::{padded, width, wrap};
use crate::explain;
use crate::explain::diagram::Diagram;
use crate::explain::lang::Lang;
use crate::explain::step::{Step, Times, others};
use crate::model::counts::StateCounts;
use crate::model::ending::Ending;
use crate::model::stat::StatFrame;
use crate::view::number::{QUIET, short, thousands};
use crate::view::screen::Screen;

/// The numbers in a diagram.
#[derive(Clone, Copy, Debug)]
pub enum Numbers<'a> {
    /// None.
    None,
    /// Sockets in each state of this network namespace now.
    Now(&'a StateCounts),
    /// Those of the namespaces looked at, and what happened until now.
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

    /// How often `step` was taken; `None` where nobody counted.
    fn taken(self, step: Step) -> Option<String> {
        let Self::During(frame) = self else { return None };
        Some(match step.taken(frame) {
            Times::Are(times) => figure(times),
            Times::AtLeast(times) => format!("{}+", figure(times)),
            Times::Unknown => "?".into(),
        })
    }
}

/// Columns that the drawing takes.
const WIDTH: usize = 79;

/// States and ways, in so many columns.
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

/// Says, to whoever waits at a terminal, that steps are counted for so many seconds.
///
/// # Errors
/// Those of `out`.
pub fn begin(out: &mut impl Write, seconds: f64, lang: Lang, screen: Screen) -> io::Result<()> {
    let words = explain::diagram(lang);
    if screen.width.is_some() {
        writeln!(out, "{}", words.counting.replace("{}", &(words.length)(seconds)))?;
        out.flush()?;
    }
    Ok(())
}

/// Writes the diagram with `numbers`, and what they are; where they are none at the arrows although the caller `is_root`, it is known
/// why not. On a screen that is too narrow for the drawing, the steps are a list.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut impl Write, numbers: Numbers<'_>, is_root: bool, lang: Lang, screen: Screen) -> io::Result<()> {
    let words = explain::diagram(lang);
    if screen.width.is_none_or(|width| width >= WIDTH) {
        for line in draw(words, numbers, screen).lines() {
            writeln!(out, "{line}")?;
        }
    } else {
        list(out, words, numbers, screen)?;
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
        let (row, column) = place(state);
        canvas.paint(row + 1, column + NAME, state.name().len(), screen.style(state));
        if let Some(sockets) = sockets(numbers, state) {
            canvas.put_before(row + 1, column + NUMBER, &sockets, plain);
        }
    }
    for step in Step::ALL {
        let label = (words.step)(step);
        let times = numbers.taken(step);
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

/// Writes each state, and under it the steps from there.
fn list(out: &mut impl Write, words: &Diagram, numbers: Numbers<'_>, screen: Screen) -> io::Result<()> {
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
            let times = numbers.taken(step).unwrap_or_default();
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

/// How many sockets are in `state`; `None` where that is not known. Nobody lists those in `CLOSE`.
fn sockets(numbers: Numbers<'_>, state: TcpState) -> Option<String> {
    let now = numbers.now().filter(|_| state != TcpState::Close)?;
    Some(figure(now.get(state)))
}

/// A number, in four columns at most.
fn figure(number: u64) -> String {
    match number {
        0 => QUIET.into(),
        number => short(number),
    }
}

/// What is said under the diagram.
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

    /// What is from column `from` of `line` on, and before column `end`.
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
    fn all_words_are_whole_and_fit_80_columns() {
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
                    let said = match (beside(step), numbers.taken(step)) {
                        (Beside::From(row, at), _) => between(lines[row], at, at + columns),
                        (Beside::Around(row, at), _) => between(lines[row - 1], at, at + columns),
                        (Beside::Until(row, end), None) => between(lines[row], end - columns, end),
                        (Beside::Until(row, end), Some(times)) => {
                            let end = end - width(&times) - 2;
                            between(lines[row], end - columns, end)
                        }
                    };
                    assert_eq!(said, label, "{step:?}: {text}");
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
            10 + 14,
            "ten boxes, fourteen arrows: {drawn}"
        );
        assert!(drawn.contains("SYN in, SYN-ACK out  ? "), "{drawn}");
        assert!(drawn.contains("1 were closed here first"), "{drawn}");
        assert!(!drawn.contains("refused") && !drawn.contains("not known"), "{drawn}");
        frame.time_wait.left = None;
        frame.time_wait.refused = Some(1200);
        assert!(text(Numbers::During(&frame), Lang::En).contains("1,200 timewait sockets were refused"));
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

    /// As on a kernel without BTF, where all namespaces are mixed, and no ending is known.
    #[test]
    fn what_is_not_known_is_neither_zero_nor_an_abort() {
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
        assert!(text.contains("How 2,482 connections ended is not known"), "{text}");
        assert!(text.contains("of all network namespaces"), "{text}");
    }

    #[test]
    fn a_narrow_screen_has_a_list() {
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
    fn who_waits_at_a_terminal_is_told_for_how_long() {
        let said = |lang, screen| {
            let mut out = Vec::new();
            begin(&mut out, 60.0, lang, screen).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            said(Lang::En, Screen::plain(80)),
            "counting for 60.0 s; Ctrl-C ends it\n"
        );
        assert_eq!(
            said(Lang::Zh, Screen::plain(80)),
            "正在统计，共 60.0 秒；按 Ctrl-C 提前结束\n"
        );
        let piped = Screen {
            width: None,
            colour: false,
        };
        assert_eq!(said(Lang::En, piped), "");
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
        assert!(text.contains("in the last 1.0 s;"), "{text}");
    }
}
