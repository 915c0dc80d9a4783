//! The stacks at which connections are opened, against what the programs say of themselves (backtrace(3)), and addr2line(1) of them.

use std::path::Path;
use std::process::Command;

use tcpwatch::model::filter::Filter;

use crate::support::netns::in_netns;
use crate::support::stacks::{Left, Opened, Program, Running, Watched, of_module};

/// Compares what was seen of each of the sockets `opened` by the program with what it and addr2line say.
fn compare(watched: &Watched, program: &Program, left: Left, opened: &[Opened]) {
    assert!(opened.len() >= 4);
    for socket in opened {
        let stack = watched.stack(socket.inode);
        let way = &socket.way;
        assert_eq!(stack.finished, Ok(()), "{way}: {stack:?}");
        let own = of_module(&stack, "opens");
        // The guilty one is the first of all frames, and of its functions that are not inlined.
        let guilty = match way.as_str() {
            "accept4" => "aligned_accept4",
            way if way.starts_with("connect") => "guilty_connect",
            _ => "guilty_accept",
        };
        let (frame, address) = own
            .iter()
            .find(|(_, address)| program.at(*address).0.contains(guilty))
            .unwrap_or_else(|| panic!("{way}: {guilty} is not there: {stack:#?}"));
        let place = stack
            .frames
            .iter()
            .position(|found| found == *frame)
            .expect("it is one");
        assert_eq!(
            program.at(*address).1.rsplit(':').next().map(first_number),
            Some(socket.line),
            "{way}"
        );
        match left {
            Left::Lines => {
                assert_eq!(frame.line, Some(socket.line), "{way}: {stack:#?}");
                let file = frame.file.as_deref().expect("a file");
                assert!(file.contains("/opens."), "{file}");
            }
            Left::Names | Left::Nothing => assert_eq!((&frame.file, frame.line), (&None, None), "{way}"),
        }
        match left {
            Left::Lines | Left::Names => {
                let name = frame.function.as_deref().expect("a name");
                assert!(name == guilty || name.ends_with(&format!("::{guilty}")), "{name}");
            }
            Left::Nothing => assert_eq!(frame.function, None, "{way}"),
        }
        if program.is_c() {
            assert_eq!(place, 0, "{way}: {stack:#?}");
            let callers: Vec<u64> = own.iter().skip(1).map(|(_, address)| address + 1).collect();
            // Where the C library is part of the program, its start is too, and is not called by an instruction before it.
            assert!(
                callers == socket.callers,
                "{way}: {callers:x?}, and by backtrace(3) {:x?}: {stack:#?}",
                socket.callers
            );
        }
    }
}

fn first_number(text: &str) -> u32 {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// Runs the program with that `left` of it by `command`, and compares.
fn check(program: &Program, left: Left, command: impl FnOnce(&Path) -> Command + Send) {
    in_netns(|netns| {
        let watched = Watched::start(netns, &Filter::default());
        let path = program.with(left);
        let mut running = Running::start(&mut command(&path));
        let opened = running.open();
        compare(&watched, program, left, &opened);
        assert_eq!(watched.kernel.lost_stacks(), 0);
    });
}

fn plainly(path: &Path) -> Command {
    Command::new(path)
}

#[test]
fn of_c_with_lines() {
    check(&Program::in_c(&[]), Left::Lines, plainly);
}

#[test]
fn of_c_with_names() {
    check(&Program::in_c(&[]), Left::Names, plainly);
}

#[test]
fn of_c_stripped() {
    check(&Program::in_c(&[]), Left::Nothing, plainly);
}

#[test]
fn of_c_not_position_independent() {
    check(&Program::in_c(&["-no-pie"]), Left::Names, plainly);
}

#[test]
fn of_c_with_the_library_in_it() {
    check(&Program::in_c(&["-static"]), Left::Names, plainly);
}

#[test]
fn of_rust_with_lines() {
    check(&Program::in_rust(), Left::Lines, plainly);
}

#[test]
fn of_rust_with_names() {
    check(&Program::in_rust(), Left::Names, plainly);
}
