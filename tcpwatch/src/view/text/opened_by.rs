//! Where in their program sockets were opened, for people: the functions that called `accept()` or `connect()`, the most first.

use crate::input::escaped::Escaped;
use crate::input::stacks::{Stack, StackFrame};
use crate::model::format::thousands;
use crate::model::leaks::{OpenedBy, caller, is_interpreter, is_library};

/// Functions shown at most.
const CALLERS: usize = 5;
/// Functions shown that led to one.
const OUTER: usize = 2;

/// A line for each function that opened some of `sockets`, and one for those of which that is not known.
#[must_use]
pub(super) fn lines(opened_by: &[OpenedBy], sockets: u64) -> Vec<String> {
    let mut callers: Vec<(u64, &Stack)> = Vec::new();
    for opened in opened_by {
        let same = |stack: &Stack| {
            stack.finished == opened.stack.finished
                && caller(stack) == caller(&opened.stack)
                // What has no name may be where all go through.
                && (is_named(stack) || outer(stack) == outer(&opened.stack))
        };
        match callers.iter_mut().find(|(_, stack)| same(stack)) {
            Some((count, _)) => *count += opened.sockets,
            None => callers.push((opened.sockets, &opened.stack)),
        }
    }
    callers.sort_by_key(|&(count, _)| std::cmp::Reverse(count));
    let known: u64 = opened_by.iter().map(|opened| opened.sockets).sum();
    let more: u64 = callers.iter().skip(CALLERS).map(|(count, _)| count).sum();
    let of = |count: u64| format!("{} of {}", thousands(count), thousands(sockets));
    let mut lines: Vec<String> = callers
        .iter()
        .take(CALLERS)
        .map(|&(count, stack)| format!("opened by  {}  {}", place(stack), of(count)))
        .collect();
    if more > 0 {
        lines.push(format!("opened by  other functions  {} (-o json)", of(more)));
    }
    let unknown = sockets.saturating_sub(known);
    if unknown > 0 {
        lines.push(format!(
            "opened before the watch, or it is not known where: {}",
            of(unknown)
        ));
    }
    lines
}

/// `handle_upload  src/upload.rs:88  < serve < main`, and what was not seen of it.
fn place(stack: &Stack) -> String {
    let Some(found) = caller(stack) else {
        return unfinished(stack).unwrap_or_else(|| "?".into());
    };
    let mut words = function(found);
    if let Some(file) = &found.file {
        let line = found.line.map(|line| format!(":{line}")).unwrap_or_default();
        words = format!("{words}  {}{line}", short(file));
    }
    let outer: Vec<String> = outer(stack).into_iter().map(function).collect();
    if !outer.is_empty() {
        words = format!("{words}  < {}", outer.join(" < "));
    }
    let interpreter = is_interpreter(found).then(|| "an interpreter: what it ran is not seen".to_owned());
    let missing: Vec<String> = [no_symbols(stack), interpreter, unfinished(stack)]
        .into_iter()
        .flatten()
        .collect();
    if missing.is_empty() {
        words
    } else {
        format!("{words}  ({})", missing.join("; "))
    }
}

/// Whether the function to show has a name.
fn is_named(stack: &Stack) -> bool {
    caller(stack).is_some_and(|frame| frame.function.is_some())
}

/// The next functions that led to the one to show: of a program with names those that have one.
fn outer(stack: &Stack) -> Vec<&StackFrame> {
    let found = caller(stack);
    let frames = stack.frames.iter().skip_while(|frame| Some(*frame) != found).skip(1);
    let names = is_named(stack);
    frames
        .filter(|frame| !is_library(frame) && (frame.function.is_some() || !names))
        .take(OUTER)
        .collect()
}

/// What it means that the function to show has no name.
fn no_symbols(stack: &Stack) -> Option<String> {
    if let Some(why) = caller(stack).and_then(|frame| frame.unnamed) {
        return Some(format!("no names: {why}"));
    }
    // Code that was made while the program ran is in no file, and that is said.
    let in_file = caller(stack).is_some_and(|frame| frame.module.is_some());
    if is_named(stack) || !in_file {
        return None;
    }
    Some(if stack.caller_known {
        "no symbols".into()
    } else {
        "no symbols: the first may be the C library's accept() or connect()".into()
    })
}

/// Why the stack may have begun elsewhere.
fn unfinished(stack: &Stack) -> Option<String> {
    let why = stack.finished.err()?;
    Some(format!("unfinished: {why}"))
}

/// The function's name, or the file and address it is at.
fn function(frame: &StackFrame) -> String {
    if let Some(function) = &frame.function {
        return Escaped(function.as_bytes()).to_string();
    }
    let module = frame
        .module
        .as_ref()
        .map_or_else(|| "?".into(), |module| Escaped(module.as_bytes()).to_string());
    match frame.address {
        Some(address) => format!("{module}+0x{address:x}"),
        None => module,
    }
}

/// The last of a path: `src/upload.rs`.
fn short(path: &str) -> String {
    let cut = path.rmatch_indices('/').nth(1).map_or(0, |(at, _)| at + 1);
    Escaped(&path.as_bytes()[cut..]).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::stacks::Why;

    fn frame(function: Option<&str>, file: Option<&str>) -> StackFrame {
        StackFrame {
            function: function.map(Into::into),
            module: Some("app".into()),
            address: Some(0x1139),
            file: file.map(Into::into),
            line: file.map(|_| 88),
            unnamed: None,
        }
    }

    fn opened(sockets: u64, frames: Vec<StackFrame>, finished: Result<(), Why>) -> OpenedBy {
        OpenedBy {
            sockets,
            stack: Stack {
                frames,
                caller_known: true,
                finished,
            },
        }
    }

    #[test]
    fn functions_come_with_their_place_and_what_called_them() {
        let upload = || {
            vec![
                frame(Some("handle_upload"), Some("/home/a/app/src/upload.rs")),
                frame(Some("serve"), None),
                frame(None, None),
                frame(Some("std::rt::lang_start"), None),
                frame(Some("main"), None),
                frame(Some("__libc_start_call_main"), None),
            ]
        };
        let mut other = upload();
        other.pop();
        let all = [
            opened(300, upload(), Ok(())),
            opened(109, other, Ok(())),
            opened(2, vec![frame(Some("health\u{1b}"), None)], Err(Why::Anonymous)),
            opened(1, vec![frame(None, None)], Err(Why::NoUnwindInfo)),
        ];
        assert_eq!(
            lines(&all, 1412),
            [
                "opened by  handle_upload  src/upload.rs:88  < serve < main  409 of 1,412",
                "opened by  health\\u{1b}  (unfinished: the code is not from a file (JIT or unpacked))  2 of 1,412",
                "opened by  app+0x1139  (no symbols; unfinished: the file has no unwind information (.eh_frame))  1 of 1,412",
                "opened before the watch, or it is not known where: 1,000 of 1,412",
            ]
        );
    }

    /// `app+0x433840` is what all of them go through.
    #[test]
    fn without_names_those_that_led_there_tell_them_apart() {
        let at = |address: u64| StackFrame {
            address: Some(address),
            ..frame(None, None)
        };
        let calls = |caller: u64, main: u64| vec![at(0x0043_3840), at(caller), at(main), at(0x0040_1000)];
        let mut all = [
            opened(4, calls(0x0040_17a2, 0x0040_1690), Ok(())),
            opened(2, calls(0x0040_18f0, 0x0040_1690), Ok(())),
            opened(1, calls(0x0040_17a2, 0x0040_1690), Ok(())),
        ];
        assert_eq!(
            lines(&all, 7),
            [
                "opened by  app+0x433840  < app+0x4017a2 < app+0x401690  (no symbols)  5 of 7",
                "opened by  app+0x433840  < app+0x4018f0 < app+0x401690  (no symbols)  2 of 7",
            ]
        );
        all[0].stack.caller_known = false;
        assert_eq!(
            lines(&all[..1], 4),
            ["opened by  app+0x433840  < app+0x4017a2 < app+0x401690  \
                 (no symbols: the first may be the C library's accept() or connect())  4 of 4"]
        );
    }

    #[test]
    fn what_is_beyond_is_counted_together() {
        let names: Vec<String> = (0..8).map(|number| format!("f{number}")).collect();
        let all: Vec<OpenedBy> = names
            .iter()
            .map(|name| opened(2, vec![frame(Some(name), None)], Ok(())))
            .collect();
        let told = lines(&all, 16);
        assert_eq!(told.len(), 6);
        assert_eq!(told[5], "opened by  other functions  6 of 16 (-o json)");
        assert_eq!(lines(&[], 0), [""; 0]);
        let nothing = opened(1, vec![], Err(Why::ProcessGone));
        assert_eq!(
            lines(&[nothing], 1),
            ["opened by  unfinished: the process exited before its files were read  1 of 1"]
        );
    }
}
