//! The stacks at which connections are opened, against what the programs say of themselves (backtrace(3)), and addr2line(1) of them.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tcpwatch::input::stacks::{Stack, Why};
use tcpwatch::model::filter::Filter;
use tcpwatch::source::ebpf::Hook;

use crate::support::clock::until;
use crate::support::netns::in_netns;
use crate::support::pidns::{PidNamespace, Proc};
use crate::support::python::Python;
use crate::support::stacks::{Left, Opened, Program, Running, Watched, of_module};

/// Compares what was seen of each of the sockets `opened` by the program with what it and addr2line say.
fn compare(watched: &Watched, program: &Program, left: Left, opened: &[Opened]) {
    assert!(opened.len() >= 2);
    for socket in opened {
        let stack = watched.stack(socket.inode);
        let way = &socket.way;
        assert_eq!((stack.finished, stack.caller_known), (Ok(()), true), "{way}: {stack:?}");
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

/// The one frame of what `stack` shows of function `name`, which must be the first.
fn is_first(stack: &Stack, name: &str) {
    let first = stack.frames.first().and_then(|frame| frame.function.as_deref());
    assert_eq!(first, Some(name), "{stack:#?}");
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

/// What the C library does on the way cannot be told from the rest, and that is said; who called it is there all the same.
#[test]
fn of_c_stripped_with_the_library_in_it() {
    in_netns(|netns| {
        let watched = Watched::start(netns, &Filter::default());
        let program = Program::in_c(&["-static"]);
        let mut running = Running::start(&mut Command::new(program.with(Left::Nothing)));
        for socket in &running.open() {
            let stack = watched.stack(socket.inode);
            let way = &socket.way;
            assert_eq!(
                (stack.finished, stack.caller_known),
                (Ok(()), false),
                "{way}: {stack:#?}"
            );
            let guilty = of_module(&stack, "opens").into_iter().position(|(_, address)| {
                let (function, line) = program.at(address);
                (function.starts_with("guilty_") || function == "aligned_accept4")
                    && first_number(line.rsplit(':').next().unwrap_or("")) == socket.line
            });
            assert!(guilty.is_some_and(|place| place > 0), "{way}: {stack:#?}");
        }
    });
}

#[test]
fn of_rust_with_lines() {
    check(&Program::in_rust(), Left::Lines, plainly);
}

#[test]
fn of_rust_with_names() {
    check(&Program::in_rust(), Left::Names, plainly);
}

#[test]
fn of_rust_stripped() {
    check(&Program::in_rust(), Left::Nothing, plainly);
}

#[test]
fn of_a_file_that_is_deleted_by_then() {
    in_netns(|netns| {
        let program = Program::in_c(&[]);
        let watched = Watched::start(netns, &Filter::default());
        let path = program.with(Left::Lines);
        let mut running = Running::start(&mut Command::new(&path));
        // It may still be a copy of this process, that has to find the file.
        let exe = format!("/proc/{}/exe", running.pid());
        until("the program to run", || {
            std::fs::read_link(&exe).is_ok_and(|exe| exe == path)
        });
        std::fs::remove_file(&path).expect("deleting a program");
        let opened = running.open();
        compare(&watched, &program, Left::Lines, &opened);
    });
}

/// A function that was interrupted goes on at an instruction of its own, and how it is left is told by expressions.
#[test]
fn in_a_handler_of_a_signal() {
    check(&Program::in_c(&[]), Left::Names, |path| {
        let mut command = Command::new(path);
        command.arg("handler");
        command
    });
}

#[test]
fn in_another_mount_namespace() {
    check(&Program::in_c(&[]), Left::Lines, |path| {
        let mut command = Command::new("unshare");
        let there = "mount --bind \"$0\" /mnt && exec /mnt/opens";
        command
            .args(["--mount", "sh", "-c", there])
            .arg(path.parent().expect("a folder"));
        command
    });
}

#[test]
fn in_another_pid_namespace() {
    let namespace = PidNamespace::new();
    check(&Program::in_c(&[]), Left::Lines, |path| {
        namespace.enter(Proc::Own, path)
    });
}

#[test]
fn on_the_classic_hook() {
    in_netns(|netns| {
        let program = Program::in_c(&[]);
        let watched = Watched::on(netns, Hook::Tracepoint, &Filter::default());
        let mut running = Running::start(&mut Command::new(program.with(Left::Names)));
        compare(&watched, &program, Left::Names, &running.open());
    });
}

/// Of each the first frame is there, and why there are no more.
#[test]
fn unfinished_stacks_are_said_to_be() {
    let plain = Program::in_c(&[]);
    let untold = Program::in_c(&["-fno-asynchronous-unwind-tables", "-fno-unwind-tables"]);
    in_netns(|netns| {
        let watched = Watched::start(netns, &Filter::default());
        for (program, how, why) in [
            (&untold, "", Why::NoUnwindInfo),
            (&plain, "too_deep", Why::CopyEnded),
            #[cfg(target_arch = "x86_64")]
            (&plain, "made_code", Why::Anonymous),
        ] {
            let mut command = Command::new("unshare");
            // The program writes to /tmp, which is where it lies, too.
            let there = "mount --bind \"$0\" /mnt && mount -t tmpfs none /tmp && exec /mnt/opens $1";
            let place = program.with(Left::Names);
            command
                .args(["--mount", "sh", "-c", there])
                .arg(place.parent().expect("a folder"))
                .arg(how);
            let mut running = Running::start(&mut command);
            let opened = running.open();
            let socket = opened
                .iter()
                .find(|socket| socket.way != "connect")
                .expect("it accepts");
            let stack = watched.stack(socket.inode);
            assert_eq!(stack.finished, Err(why), "{how}: {stack:#?}");
            is_first(&stack, "guilty_accept");
            let last = stack.frames.last().expect("there is one");
            match why {
                Why::Anonymous => {
                    assert_eq!(last.function.as_deref(), Some("made while it ran"));
                    assert_eq!((stack.frames.len(), &last.module), (2, &None));
                }
                Why::CopyEnded => {
                    assert!(stack.frames.len() > 50, "{}", stack.frames.len());
                    assert_eq!(last.function.as_deref(), Some("deep"));
                }
                _ => assert_eq!(stack.frames.len(), 1),
            }
        }
    });
}

/// A `connect()` that waits for its answer is known while it waits; and an interpreter's stack is followed to its end.
#[test]
fn of_a_connect_that_waits_in_python() {
    in_netns(|netns| {
        let watched = Watched::start(netns, &Filter::default());
        let mut script = Python::start(
            "
import json, os, socket, sys, time
full = socket.create_server(('127.0.0.1', 0), backlog=0)
first = socket.create_connection(full.getsockname())
second = socket.socket()
print(json.dumps([os.fstat(s.fileno()).st_ino for s in (first, second)]), flush=True)
second.connect(full.getsockname())
",
            &[],
        );
        let inodes = script.line(0);
        let inode = |place: usize| u32::try_from(inodes[place].as_u64().expect("a number")).expect("a number");
        for socket in [inode(0), inode(1)] {
            let stack = watched.stack(socket);
            assert_eq!(stack.finished, Ok(()), "{stack:#?}");
            // It is the interpreter that calls the C library.
            let first = stack
                .frames
                .first()
                .and_then(|frame| frame.module.as_deref())
                .expect("a module");
            assert!(first.contains("python") || first.contains("_socket"), "{stack:#?}");
        }
        assert_eq!(script.said(1), None::<Value>);
    });
}

/// The same line is one stack, and another line is another.
#[test]
fn the_same_stacks_are_one() {
    in_netns(|netns| {
        let watched = Watched::start(netns, &Filter::default());
        let mut script = Python::start(
            "
import json, os, socket, sys
listener = socket.create_server(('127.0.0.1', 0), backlog=100)
def connect(): return socket.create_connection(listener.getsockname())
kept = [connect() for _ in range(50)]
print(json.dumps([os.fstat(s.fileno()).st_ino for s in kept]), flush=True)
kept += [listener.accept()[0] for _ in range(50)]
print(json.dumps([os.fstat(s.fileno()).st_ino for s in kept[50:]]), flush=True)
sys.stdin.read()
",
            &[],
        );
        let mut ids = Vec::new();
        for line in 0..2 {
            let inodes = script.line(line);
            let of = |inode: &Value| {
                watched
                    .stacks
                    .opening_stack(u32::try_from(inode.as_u64().expect("a number")).expect("a number"))
            };
            let inodes = inodes.as_array().expect("a list");
            until("all stacks", || inodes.iter().all(|inode| of(inode).is_some()));
            // The first time some code runs it may be found in another way than later.
            ids.push(inodes[1..].iter().map(of).collect::<std::collections::HashSet<_>>());
        }
        assert_eq!((ids[0].len(), ids[1].len()), (1, 1));
        assert_ne!(ids[0], ids[1]);
        assert_eq!(watched.stacks.kept().0, 100);
        watched.stacks.retain(u64::MAX, |_| false);
        assert_eq!(watched.stacks.kept(), (0, 0));
    });
}

/// What the filter does not want is not copied. (Where it asks for a local port, one that is not chosen yet may be the one.)
#[test]
fn of_what_the_filter_wants() {
    in_netns(|netns| {
        let all = Watched::start(netns, &Filter::default());
        let none = Filter {
            remote: vec!["10.0.0.0/8".parse().expect("a range")],
            ..Filter::default()
        };
        let none = Watched::start(netns, &none);
        let program = Program::in_c(&[]);
        let mut running = Running::start(&mut Command::new(program.with(Left::Nothing)));
        for socket in &running.open() {
            all.stack(socket.inode);
        }
        assert_eq!((none.stacks.kept(), none.kernel.lost_stacks()), ((0, 0), 0));
    });
}

/// Where the ring buffer is full, stacks are lost, and counted.
#[test]
fn that_find_no_room_are_counted() {
    in_netns(|netns| {
        // Two short stacks have room in a page.
        let kernel = Watched::kernel(netns, Hook::TpBtf, &Filter::default(), 4096);
        let program = Program::in_c(&[]);
        let opened = Running::start(&mut Command::new(program.with(Left::Nothing))).open();
        let lost = usize::try_from(kernel.lost_stacks()).expect("few");
        assert!(
            lost < opened.len() && lost + 2 >= opened.len(),
            "{lost} of {}",
            opened.len()
        );
    });
}
