//! Where in their program stuck sockets were opened.

use std::cmp::Reverse;
use std::num::NonZeroU32;

use hashbrown::HashMap;

use crate::input::stacks::{Stack, StackFrame, StackId};

/// Stacks of a group named at most: to name a new one takes milliseconds.
const STACKS_MAX: usize = 64;

/// Sockets that the same stack opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedBy {
    /// How many.
    pub sockets: u64,
    /// Where.
    pub stack: Stack,
}

/// Counts the sockets of `inodes` by the stack that opened them, the most first. `stack_of` returns the stack of a socket, and `named`
/// the stack with the names of its functions. A socket without either is not counted.
#[must_use]
pub fn opened_by(
    inodes: &[NonZeroU32],
    stack_of: impl FnMut(NonZeroU32) -> Option<StackId>,
    mut named: impl FnMut(StackId) -> Option<Stack>,
) -> Vec<OpenedBy> {
    let mut counts: HashMap<StackId, u64> = HashMap::new();
    for id in inodes.iter().copied().filter_map(stack_of) {
        *counts.entry(id).or_default() += 1;
    }
    let mut counts: Vec<(StackId, u64)> = counts.into_iter().collect();
    counts.sort_unstable_by_key(|&(id, sockets)| (Reverse(sockets), id));
    let mut all: Vec<OpenedBy> = Vec::new();
    for (id, sockets) in counts.into_iter().take(STACKS_MAX) {
        let Some(stack) = named(id) else { continue };
        // Several processes of one program, or calls on one line, look the same.
        match all.iter_mut().find(|opened| opened.stack == stack) {
            Some(opened) => opened.sockets += sockets,
            None => all.push(OpenedBy { sockets, stack }),
        }
    }
    all.sort_by_key(|opened| Reverse(opened.sockets));
    all
}

/// Interpreters and virtual machines, by how the names of their files begin.
const INTERPRETERS: [&str; 17] = [
    "python",
    "libpython",
    "ruby",
    "libruby",
    "perl",
    "libperl",
    "php",
    "libphp",
    "node",
    "deno",
    "bun",
    "java",
    "libjvm",
    "libnet.so",
    "libnio.so",
    "lua",
    "beam.smp",
];

/// The function to show: the first that is neither the language's own library nor an interpreter's; the first of all
/// where there is none.
#[must_use]
pub fn caller(stack: &Stack) -> Option<&StackFrame> {
    let own = |frame: &&StackFrame| !is_library(frame);
    let mut frames = stack.frames.iter();
    frames
        .find(|frame| own(frame) && !is_interpreter(frame))
        .or_else(|| stack.frames.iter().find(own))
        .or(stack.frames.first())
}

/// Whether the frame is of an interpreter, and not of the program that it runs.
#[must_use]
pub fn is_interpreter(frame: &StackFrame) -> bool {
    let module = frame.module.as_deref().unwrap_or_default();
    INTERPRETERS.iter().any(|name| module.starts_with(name))
}

/// The function that opened more than half of `sockets`, by its name; `None` where no one did, or it has none.
#[must_use]
pub fn culprit(opened_by: &[OpenedBy], sockets: u64) -> Option<&str> {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for opened in opened_by {
        let caller = caller(&opened.stack).filter(|frame| !is_interpreter(frame));
        if let Some(name) = caller.and_then(|frame| frame.function.as_deref()) {
            *counts.entry(name).or_default() += opened.sockets;
        }
    }
    let (name, most) = counts.into_iter().max_by_key(|&(_, count)| count)?;
    (most.saturating_mul(2) > sockets).then_some(name)
}

/// Whether it is part of the standard library of Rust or C++, or of where the C library begins a program or a thread.
#[must_use]
pub fn is_library(frame: &StackFrame) -> bool {
    let Some(function) = &frame.function else { return false };
    let path = function.trim_start_matches('<').trim_start_matches('&');
    ["std::", "__libc_start_", "__rust_"]
        .iter()
        .any(|library| path.starts_with(library))
        || ["core::", "alloc::"].iter().any(|library| path.starts_with(library)) && !is_cpp(function)
        || ["_start", "start_thread", "clone", "clone3", "__clone", "__clone3"].contains(&path)
}

/// Whether it is a function of C++: its name ends with its parameters and a suffix (`f(int) const`, `f() [clone .cold]`). A name of Rust
/// has no parameters.
fn is_cpp(function: &str) -> bool {
    function.ends_with([')', ']', '&']) || function.ends_with(" const") || function.ends_with(" volatile")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::stacks::{Address, StackTable, Trace};

    fn stack(functions: &[&str]) -> Stack {
        let frame = |function: &&str| StackFrame {
            function: Some((*function).to_owned()),
            ..StackFrame::default()
        };
        Stack {
            frames: functions.iter().map(frame).collect(),
            caller_known: true,
            finished: Ok(()),
        }
    }

    fn inode(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    #[test]
    fn stacks_that_look_the_same_are_one_and_the_most_come_first() {
        let mut table = StackTable::new(10);
        for (number, svma) in [(1, 100), (2, 200), (3, 300), (4, 300), (5, 300)] {
            let trace = Trace {
                addresses: vec![Address::File { file: 1, svma }],
                finished: Ok(()),
            };
            table.opened(number, u64::from(number), trace);
        }
        let inodes: Vec<NonZeroU32> = (1..=9).map(inode).collect();
        let mut two_of_one = table.opening_stack(3);
        let opened = opened_by(
            &inodes,
            |inode| table.opening_stack(inode.get()),
            |id| {
                let many = two_of_one.take_if(|many| *many == id).is_some();
                Some(stack(if many { &["serve", "main"] } else { &["upload", "main"] }))
            },
        );
        let told: Vec<_> = opened
            .iter()
            .map(|opened| (opened.sockets, opened.stack.frames[0].function.as_deref()))
            .collect();
        assert_eq!(told, [(3, Some("serve")), (2, Some("upload"))]);
        assert_eq!(
            opened_by(&inodes, |inode| table.opening_stack(inode.get()), |_| None),
            []
        );
        let culprits = [5, 6].map(|sockets| culprit(&opened, sockets));
        assert_eq!(culprits, [Some("serve"), None]);
    }

    #[test]
    fn an_interpreter_is_not_what_it_runs() {
        let frame = |function: &str, module: Option<&str>| StackFrame {
            function: Some(function.into()),
            module: module.map(Into::into),
            ..StackFrame::default()
        };
        let of = |frames: Vec<StackFrame>| OpenedBy {
            sockets: 3,
            stack: Stack {
                frames,
                caller_known: true,
                finished: Ok(()),
            },
        };
        let python = [
            frame("sock_accept_impl", Some("python3.11")),
            frame("sock_call", Some("python3.11")),
        ];
        let opened = of(python.to_vec());
        assert_eq!(caller(&opened.stack), Some(&python[0]), "there is no other");
        assert_eq!(culprit(&[opened], 3), None);
        // With a map of the functions it made code for (python3 -X perf, --perf-basic-prof of node).
        let opened = of([&python[..], &[frame("py::handle_upload:/srv/app.py", None)]].concat());
        assert_eq!(culprit(&[opened], 3), Some("py::handle_upload:/srv/app.py"));
    }

    #[test]
    fn the_caller_is_not_the_languages_own() {
        let name = |functions: &[&str]| caller(&stack(functions)).and_then(|frame| frame.function.clone());
        let accept = ["std::net::tcp::TcpListener::accept", "<std::x as core::y>::z"];
        let of = |last: &[&'static str]| name(&[&accept[..], last].concat());
        assert_eq!(
            of(&["app::handle_upload", "main"]).as_deref(),
            Some("app::handle_upload")
        );
        assert_eq!(of(&[]).as_deref(), Some(accept[0]));
        // These namespaces are anybody's in C++.
        for mine in [
            "core::net::upload(int)",
            "alloc::pool::take() const",
            "core::f(int) [clone .cold]",
        ] {
            assert_eq!(name(&[mine, "event_loop(int)", "main"]).as_deref(), Some(mine));
        }
        let invoke = "std::thread::_Invoker<std::tuple<void (*)()> >::operator()()";
        assert_eq!(name(&[invoke, "serve(int)"]).as_deref(), Some("serve(int)"));
        let generic = "<core::iter::Map<I, F> as core::iter::Iterator>::next";
        assert_eq!(
            name(&[
                generic,
                "core::ops::function::FnOnce::call_once{{vtable.shim}}",
                "serve"
            ])
            .as_deref(),
            Some("serve")
        );
        assert_eq!(name(&["standard"]).as_deref(), Some("standard"));
        assert_eq!(name(&[]), None);
        let unnamed = Stack {
            frames: vec![StackFrame::default()],
            caller_known: true,
            finished: Ok(()),
        };
        assert_eq!(caller(&unnamed), Some(&StackFrame::default()));
    }
}
